"""The scenarios' own distributions, from rows whose figures are known beforehand."""

import msgspec
import pytest

from loadtest import drift, extras, summary
from loadtest.clock import Offset
from loadtest.drift import ProcessSample
from loadtest.live import live
from loadtest.plan import Plan
from loadtest.recorder import Resume, StreamRow
from loadtest.stats import Distribution
from tests.support.stream_rows import MS, intact, picked

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
ROW = intact(latency_ms=5)
MADE = ROW.produced_ns
EMPTY = Plan(1, 10.0, ())


def made(*rows: StreamRow, offset: Offset = HERE) -> dict[str, Distribution]:
    return extras.distributions(summary.measure(rows), offset)


def resumed(row: StreamRow, after: int, opened_ns: int) -> StreamRow:
    """A viewer who came back at that instant and found what had been made meanwhile 3 ms later."""
    seen = tuple(max(at, opened_ns + 3 * MS) if index >= after else at for index, at in enumerate(row.received_ns))
    resume = Resume(dropped_ns=row.received_ns[after - 1], opened_ns=opened_ns, events_before=after)
    return msgspec.structs.replace(row, received_ns=seen, resumes=(*row.resumes, resume))


def test_a_plain_stream_has_none() -> None:
    """The steady report stays as it is."""
    assert made(ROW) == {}


def test_the_resume_latency_counts_from_the_reconnect() -> None:
    """Two events waited for 120 ms; they came 3 ms after the GET, and are no delivery latency."""
    row = resumed(ROW, 2, MADE[3] + 20 * MS)
    assert made(row)["resume_latency"].percentile_s(50) == pytest.approx(0.003, rel=1e-3)
    assert live(row, HERE) == [True, True, False, False, True, True]
    latency = summary.delivery_latency(summary.measure([row]), HERE)
    assert (latency.count, latency.max_ns) == (3, 5 * MS)
    assert summary.inter_chunk_latency(summary.measure([row]), HERE).count == 2


def test_a_connection_that_brought_nothing_has_no_latency() -> None:
    """It broke again before an event came: only the one after it counts."""
    twice = resumed(resumed(ROW, 2, MADE[2]), 2, MADE[3])
    assert made(twice)["resume_latency"].count == 1


def test_broken_streams_are_lost_to_the_extras_too() -> None:
    """Never forgotten."""
    holed = picked(resumed(ROW, 2, MADE[3]), [0, 1, 3, 4, 5])
    assert (made(holed)["resume_latency"].count, made(holed)["resume_latency"].lost) == (0, 1)


def test_a_late_viewer_caught_up_when_it_had_all_that_was_there() -> None:
    """It came 10 ms after the third chunk was made, and had all three 4 ms later."""
    opened = MADE[2] + 10 * MS
    seen = tuple(max(at, opened + (index + 2) * MS) for index, at in enumerate(ROW.received_ns))
    late = msgspec.structs.replace(ROW, viewer=1, sent_ns=None, opened_ns=opened, received_ns=seen)
    found = made(ROW, late)
    assert found["catch_up_latency"].percentile_s(50) == pytest.approx(0.004, rel=1e-3)
    assert found["viewer_skew"].count == 3  # of what both saw as it was made
    figures = summary.backend("polling", summary.measure([ROW, late]), HERE, [], EMPTY)
    assert (figures["streams"], figures["ttft_s"]["count"]) == (2, 1)
    assert figures["delivery_latency_s"]["max"] == 0.005


def test_between_hosts_a_late_viewers_clock_is_corrected() -> None:
    """A server whose clock is behind seems to have made everything before the viewer came."""
    late = msgspec.structs.replace(ROW, viewer=1, opened_ns=MADE[0])
    assert live(late, HERE) == [True] * 6
    assert live(late, Offset(same_host=False, offset_ns=-60 * MS, bound_ns=MS)) == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_a_cancel_counts_to_the_terminal() -> None:
    """From the POST of the cancel."""
    assert ROW.committed is not None
    committed = msgspec.structs.replace(ROW.committed, status="cancelled")
    kinds = (*["content"] * 5, "cancelled")
    row = msgspec.structs.replace(ROW, kinds=kinds, cancelled_ns=(ROW.terminal_ns or 0) - 7 * MS, committed=committed)
    assert made(row)["cancel_latency"].percentile_s(50) == pytest.approx(0.007, rel=1e-3)


def test_slow_viewers_have_a_figure_of_their_own_and_the_others_two() -> None:
    """Those beside them and those without them; the headline holds none of the slow ones."""
    slow = msgspec.structs.replace(intact(latency_ms=900), viewer=1, slow=True, opened_ns=None)
    found = made(intact(latency_ms=6), slow, intact(block=3, latency_ms=5))
    assert {name: spread.percentile_s(50) for name, spread in found.items()} == {
        "delivery_latency_slow": pytest.approx(0.9, rel=1e-3),
        "delivery_latency_beside_slow": pytest.approx(0.006, rel=1e-3),
        "delivery_latency_without_slow": pytest.approx(0.005, rel=1e-3),
    }
    figures = summary.backend("polling", summary.measure([intact(latency_ms=6), slow]), HERE, [], EMPTY)
    assert (figures["streams"], figures["delivery_latency_s"]["max"]) == (2, 0.006)


def test_a_soaks_slices_hold_the_streams_that_began_in_them() -> None:
    """And the most memory that was seen in each. A minute each, or a sixth of a soak of less than six."""
    rows = [intact(block=0, latency_ms=5), intact(block=61, latency_ms=50), intact(block=62, latency_ms=50)]
    began = rows[0].intended_ns
    memory = [ProcessSample(began + at * 1000 * MS, {"api-1": size}) for at, size in [(1, 5), (2, 7), (70, 9)]]
    made = drift.slices(summary.measure(rows), memory, HERE, 600.0)
    assert [(one["at_s"], one["streams"], one["rss_bytes"]) for one in made[:3]] == [
        (0.0, 1, {"api-1": 7}), (60.0, 2, {"api-1": 9}), (120.0, 0, {}),
    ]  # fmt: skip
    assert made[1]["delivery_latency_p50_s"] == pytest.approx(0.05, rel=1e-3)
    assert [one["at_s"] for one in drift.slices(summary.measure(rows), [], HERE, 120.0)] == [0, 20, 40, 60, 80, 100]
    assert [one["at_s"] for one in drift.slices(summary.measure(rows), [], HERE, 3.0)] == [0, 2]
    assert drift.slices(summary.measure(rows), memory, HERE, None) == []


def test_a_slice_has_no_p99_of_fewer_chunks_than_tell_one() -> None:
    """It would be the slowest chunk, as everywhere else."""
    few, many = ([intact(latency_ms=5, chunks=50) for _ in range(streams)] for streams in (1, 2))
    for rows, known in ((few, False), (many, True)):
        (made, *_) = drift.slices(summary.measure(rows), [], HERE, 12.0)
        assert made["delivery_latency_p50_s"] is not None
        assert (made["delivery_latency_p99_s"] is not None) is known
