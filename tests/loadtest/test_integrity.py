"""Every way a stream can be broken is found from its row alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.integrity import Fault, faults, has_holes, joined, why_failed
from loadtest.recorder import StreamRow
from tests.support.stream_rows import intact, picked

ROW = intact(chunks=5)
ALL = list(range(6))


def test_a_whole_stream_in_order_is_intact() -> None:
    """Indexes 0 to 5, done, and the text that was committed."""
    assert faults(ROW) == frozenset()


def test_a_viewer_who_is_told_to_begin_anew_gets_all_of_it_once_more() -> None:
    """What it had before is discarded with its indexes; what follows has to be whole by itself."""

    def begun_anew(after: list[int]) -> StreamRow:
        row = picked(ROW, [0, 1, 2, 2, *after])
        told = {"indexes": -1, "kinds": "reset", "contents": ""}
        changes = {name: (*getattr(row, name)[:3], value, *getattr(row, name)[4:]) for name, value in told.items()}
        return msgspec.structs.replace(row, **changes)

    assert faults(begun_anew(ALL)) == frozenset()
    assert faults(begun_anew([0, 1, 3, 4, 5])) == {Fault.HOLES, Fault.CONTENT_MISMATCH}
    assert faults(begun_anew([0, 1, 1, 2, 3, 4, 5])) == {Fault.REPEATS, Fault.CONTENT_MISMATCH}


@pytest.mark.parametrize(
    ("order", "changes", "expected"),
    [
        ([0, 1, 3, 4, 5], {}, {Fault.HOLES, Fault.CONTENT_MISMATCH}),
        ([1, 2, 3, 4, 5], {}, {Fault.HOLES, Fault.CONTENT_MISMATCH}),
        ([0, 1, 1, 2, 3, 4, 5], {}, {Fault.REPEATS, Fault.CONTENT_MISMATCH}),
        ([0, 2, 1, 3, 4, 5], {}, {Fault.OUT_OF_ORDER, Fault.CONTENT_MISMATCH}),
        ([0, 1, 2], {"terminal_ns": None, "committed": None}, {Fault.MISSING_TERMINAL}),
        ([], {"terminal_ns": None, "committed": None}, {Fault.MISSING_TERMINAL}),
        (ALL, {"outcome": "failed", "error": "timeout"}, {Fault.FAILED}),
        (ALL, {"outcome": "censored"}, {Fault.CENSORED}),
        (ALL, {"event_ids": ("9", "1", "2", "3", "4", "5")}, {Fault.FAILED}),
        (ALL, {"kinds": (*["content"] * 5, "failed"), "committed": None}, {Fault.FAILED}),
        (ALL, {"kinds": (*["content"] * 5, "cancelled"), "committed": None}, {Fault.FAILED}),
    ],
)
def test_each_fault_is_named(order: list[int], changes: dict[str, Any], expected: set[Fault]) -> None:
    """A hole, a repeat, a swap, a lost terminal, a failure and a cut each have their own count."""
    assert faults(picked(ROW, order, **changes)) == expected


@pytest.mark.parametrize(
    ("terminal", "status", "why"),
    [
        ("cancelled", "cancelled", None),
        ("done", "complete", "ended with done, though it was cancelled"),
        ("cancelled", "complete", "cancelled, but its message was committed as complete"),
    ],
)
def test_a_cancelled_stream_must_end_so(terminal: str, status: str, why: str | None) -> None:
    """At its viewer and in the message; the text is held to the message as any other's is."""
    assert ROW.committed is not None
    committed = msgspec.structs.replace(ROW.committed, status=status)
    kinds = (*["content"] * 5, terminal)
    row = msgspec.structs.replace(ROW, cancelled_ns=1, kinds=kinds, committed=committed)
    assert why_failed(row) == why
    longer = msgspec.structs.replace(committed, content=committed.content + "more")
    assert Fault.CONTENT_MISMATCH in faults(msgspec.structs.replace(row, committed=longer))


@pytest.mark.parametrize(("later", "why"), [(0, None), (1, None), (2, "ended with done, though it was cancelled")])
def test_an_answer_that_was_complete_when_it_was_cancelled_may_say_so(later: int, why: str | None) -> None:
    """A chunk may have been on its way then; where more comes the cancel was not obeyed."""
    chunks = [at for kind, at in zip(ROW.kinds, ROW.received_ns, strict=True) if kind == "content"]
    taken_ns = sorted(chunks)[-later - 1]
    assert why_failed(msgspec.structs.replace(ROW, cancelled_ns=taken_ns - 1, cancel_taken_ns=taken_ns)) == why


def test_an_answer_from_the_wrong_backend_is_a_failure() -> None:
    """Otherwise two names could be compared that are one backend."""
    assert ROW.committed is not None
    committed = msgspec.structs.replace(ROW.committed, backend="pubsub")
    assert why_failed(msgspec.structs.replace(ROW, committed=committed)) == "served by pubsub instead of polling"


def test_a_reset_throws_away_the_text_before_it() -> None:
    """A redelivered task starts over; only what follows its reset is compared with the message."""
    row = msgspec.structs.replace(picked(ROW, ALL), kinds=("content", "reset", "content", "content", "content", "done"))
    assert joined(row) == "w2 w3 w4 "


def test_a_reset_may_begin_at_any_index() -> None:
    """It discards all before it, so what lies between is no hole; a gap after it is one."""
    indexes, kinds = (0, 1_000_000, 1_000_001), ("content", "reset", "done")
    row = msgspec.structs.replace(ROW, indexes=indexes, kinds=kinds)
    assert not has_holes(row)
    assert has_holes(msgspec.structs.replace(row, indexes=(0, 1_000_000, 1_000_002)))


def test_a_stream_joined_at_a_reset_begins_there() -> None:
    """Index 2 first is no hole when it is a reset."""
    row = picked(ROW, [2, 3, 4, 5])
    row = msgspec.structs.replace(row, kinds=("reset", "content", "content", "done"), committed=None)
    assert faults(row) == frozenset()


@given(st.permutations(ALL), st.sets(st.sampled_from(ALL)))
def test_no_disorder_and_no_loss_passes_as_intact(order: list[int], dropped: set[int]) -> None:
    """Any reordering or loss of events is some fault; only the original order is none."""
    kept = [index for index in order if index not in dropped]
    terminal = ROW.terminal_ns if 5 in kept else None
    found = faults(picked(ROW, kept, terminal_ns=terminal))
    assert (found == frozenset()) == (kept == ALL)
