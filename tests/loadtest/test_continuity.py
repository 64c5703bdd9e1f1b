"""What a flip may cost a stream, and what it may not: each way of breaking it is found from the rows."""

from typing import Any

import msgspec
import pytest

from loadtest import continuity, flip_figures, summary
from loadtest.clock import Offset
from loadtest.continuity import KINDS
from loadtest.flips import Done
from loadtest.recorder import StreamRow
from tests.support.flipped import BEGAN, DONE, TIMES, at, ended_on, posted
from tests.support.stream_rows import picked

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
GOOD = [
    posted(1, "pubsub"), posted(9.5, "pubsub"), posted(10.5, "polling"), posted(19.5, "polling"),
    posted(21, "polling"), posted(24, "polling"), posted(26, "streams"), posted(39.5, "streams"), posted(41, "notify"),
]  # fmt: skip
"""Two messages each before and after every flip; those at 21 and 24 s were rerouted."""
HANDED_OVER = ended_on(posted(19.9, "pubsub", arrival=1, sent_ns=at(9.9), opened_ns=at(9.9)), "polling")
"""Began at 9.9 s under pubsub and still ran when the store was lost."""


def account(*rows: StreamRow, done: Done = DONE) -> dict[str, Any]:
    return continuity.judge(summary.measure(rows), TIMES, done)


def test_streams_that_stay_and_messages_that_obey_are_continuity() -> None:
    """Also those that were open across a flip, were rerouted, or handed over, while the store was lost."""
    late_viewer = msgspec.structs.replace(HANDED_OVER, viewer=1, sent_ns=None, opened_ns=at(30), served=("polling",))
    made = account(*GOOD, HANDED_OVER, late_viewer)
    assert made["broken"] == {}
    assert made["findings"] == []
    assert (made["messages"], made["viewers"], made["intact"]) == (10, 11, 11)
    assert (made["rerouted"], made["handed_over"], made["handovers_counted"]) == (2, 1, 1)
    assert made["outcomes"] == {"done": 10}
    assert made["pairs"] == ["polling → streams", "pubsub → polling", "streams → notify"]


BROKEN = [
    ("lost", picked(posted(1, "pubsub"), [0, 1, 3, 4])),
    ("lost", posted(1, "pubsub", outcome="failed", error="POST answered 503", task_id=None, backend="")),
    ("untold", posted(1, "pubsub", backend="", served=())),
    ("late", posted(10.1, "pubsub")),
    ("late", posted(24, "pubsub")),
    ("late", posted(26, "polling")),
    ("late", posted(39, "polling")),
    ("late", posted(21, "notify")),
    ("moved", ended_on(posted(12, "polling"), "pubsub")),
    ("moved", ended_on(posted(1, "pubsub"), "polling")),
    ("moved", ended_on(posted(26, "streams"), "polling")),
    ("moved", ended_on(posted(19.9, "pubsub", sent_ns=at(9.9)), "streams")),
    ("strayed", posted(1, "pubsub", served=("pubsub", "polling"))),
    ("strayed", posted(1, "pubsub", served=(None,))),
    ("strayed", msgspec.structs.replace(HANDED_OVER, served=("pubsub", "notify"))),
]


@pytest.mark.parametrize(("kind", "row"), BROKEN)
def test_each_way_of_breaking_it_is_found_among_good_streams(kind: str, row: StreamRow) -> None:
    """A loss, a message that went where the flag no longer was, a move without a loss, a reader on its own ways."""
    made = account(*GOOD, row)
    assert made["broken"] == {kind: 1}
    (finding,) = made["findings"]
    assert finding.startswith(f"{kind}: stream ")


def test_every_kind_is_tried_and_said() -> None:
    """The last of them needs no row: more streams moved than the system knows of."""
    made = account(*GOOD, HANDED_OVER, done=msgspec.structs.replace(DONE, handovers=0))
    assert made["broken"] == {"not counted": 1}
    assert {kind for kind, _ in BROKEN} | {"not counted"} == set(KINDS)


def test_a_message_between_order_and_effect_may_get_either() -> None:
    """Nobody can say which came first; one that was sent before the flip and answered after it as well."""
    ordered = [posted(10.02, backend, arrival=place) for place, backend in enumerate(("pubsub", "polling"))]
    across = [
        posted(9.99, backend, accepted_ns=at(10.3), arrival=place + 2)
        for place, backend in enumerate(("pubsub", "polling"))
    ]
    assert account(*ordered, *across)["broken"] == {}


def test_the_readers_of_a_message_that_could_not_be_read_may_have_followed_a_hand_over() -> None:
    """It is lost, and is not called astray as well; without a loss of the store it is both."""
    followed = msgspec.structs.replace(HANDED_OVER, committed=None, outcome="failed", served=("pubsub", "polling"))
    assert account(*GOOD, followed)["broken"] == {"lost": 1}
    before = posted(1, "pubsub", committed=None, outcome="failed", served=("pubsub", "polling"))
    assert account(*GOOD, before)["broken"] == {"lost": 1, "strayed": 1}


def test_a_refused_message_is_an_outcome_of_its_own() -> None:
    """However its answer was worded."""
    refused = [
        posted(1, "", arrival=place, task_id=None, outcome="failed", error=f"POST answered {place}") for place in (2, 3)
    ]
    assert account(*GOOD, *refused)["outcomes"] == {"done": len(GOOD), "refused": 2}


def test_a_hand_over_that_nobody_counted_is_taken_from_the_rows() -> None:
    """Where the workers can't be asked."""
    made = account(*GOOD, HANDED_OVER, done=msgspec.structs.replace(DONE, handovers=None))
    assert made["broken"] == {}
    assert made["handed_over"] == 1


def figures(*rows: StreamRow) -> list[dict[str, Any]]:
    return flip_figures.figures(summary.measure(rows), TIMES, DONE, HERE, BEGAN)


def test_a_flip_tells_how_soon_the_new_backend_was_used() -> None:
    """From its being in force to the first POST that got it, and to the first chunk of any such stream."""
    first, lost, last = figures(*GOOD, HANDED_OVER)
    assert (first["before"], first["backend"], first["at_s"], first["store_lost_s"]) == (
        "pubsub",
        "polling",
        10.0,
        None,
    )
    assert first["took_s"] == pytest.approx(0.05)
    assert first["to_first_post_s"] == pytest.approx(0.45)
    assert first["to_first_content_s"] == pytest.approx(0.45 + 0.204)
    assert (first["posted"], first["on_new"], first["rerouted"], first["late"]) == (2, 2, 0, 0)
    assert (lost["posted"], lost["on_new"], lost["rerouted"], lost["store_lost_s"]) == (4, 2, 2, 2.0)
    assert lost["to_first_post_s"] == pytest.approx(5.95), "the rerouted ones are not on the new backend"
    assert (last["posted"], last["on_new"]) == (1, 1)


def test_a_late_message_is_counted_where_it_was_posted() -> None:
    """And is none of those on the new backend; a flip that nobody met has no time to tell."""
    first, _, last = figures(posted(10.1, "pubsub"), posted(12, "polling"))
    assert (first["posted"], first["on_new"], first["late"]) == (2, 1, 1)
    assert (last["posted"], last["to_first_post_s"], last["to_first_content_s"]) == (0, None, None)


def test_streams_open_across_a_flip_are_counted_with_their_ends() -> None:
    """Intact, lost, or handed over."""
    torn = posted(9.5, "pubsub", arrival=2, outcome="failed", error="cut")
    first, lost, _ = figures(posted(9.5, "pubsub"), torn, HANDED_OVER)
    assert (first["open"], first["open_intact"], first["open_handed_over"]) == (3, 2, 1)
    assert (lost["open"], lost["open_intact"], lost["open_handed_over"]) == (1, 1, 1)


def test_latency_is_told_before_during_and_after_by_backend() -> None:
    """A second each; where the store was lost, `during` lasts until a second after new messages found back."""
    first, lost, _ = figures(posted(9, "pubsub"), posted(10.1, "polling"), posted(23, "polling"), posted(26, "streams"))
    around = first["delivery_latency_s"]
    assert set(around["before"]) == {"all", "pubsub"}
    assert set(around["during"]) == {"all", "pubsub", "polling"}
    assert around["before"]["pubsub"]["p50"] == pytest.approx(0.005, rel=0.01)
    assert around["before"]["all"]["count"] + around["during"]["pubsub"]["count"] == 20
    spans = {name: one["all"]["count"] for name, one in lost["delivery_latency_s"].items()}
    assert spans == {"before": 0, "during": 20, "after": 16}
