"""What each flip did: how soon the new backend was used, what ran across it, and the latency around it. Pure."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from loadtest.clock import Offset
from loadtest.continuity import END_OF_TIME_NS, Course, is_late
from loadtest.flips import Done, Flip, Timetable
from loadtest.live import live
from loadtest.recorder import StreamRow
from loadtest.stats import Distribution
from loadtest.summary import Measured

WINDOW_NS = 1_000_000_000
EVERY = "all"


class Delivered(NamedTuple):
    """One content chunk that was seen live."""

    at_ns: int
    took_ns: int
    backend: str


def figures(
    streams: Sequence[Measured], times: Timetable, done: Done, offset: Offset, began_ns: int
) -> list[dict[str, Any]]:
    """One entry a flip, in order."""
    course = Course(times, done.flips)
    chunks = sorted(_delivered(streams, offset))
    ends = [*(flip.at_ns for flip in done.flips[1:]), END_OF_TIME_NS]
    return [
        _of_one(flip, until_ns, streams, course, began_ns)
        | {"delivery_latency_s": _around(flip, until_ns, times.settle_s, chunks)}
        for flip, until_ns in zip(done.flips, ends, strict=False)
    ]


def _of_one(flip: Flip, until_ns: int, streams: Sequence[Measured], course: Course, began_ns: int) -> dict[str, Any]:
    asked = [one for one in streams if not one.row.viewer]
    posted = [one.row for one in asked if one.row.backend and flip.done_ns <= (one.row.sent_ns or 0) < until_ns]
    news = [row for row in posted if row.backend == flip.backend]
    first = min(news, key=lambda row: row.sent_ns or 0, default=None)
    across = [one for one in asked if _is_open(one.row, flip.at_ns)]
    return {
        "at_s": (flip.at_ns - began_ns) / 1e9,
        "before": flip.before,
        "backend": flip.backend,
        "store_lost_s": _seconds(flip.lost_ns, flip.back_ns),
        "took_s": (flip.done_ns - flip.at_ns) / 1e9,
        "to_first_post_s": _seconds(flip.done_ns, first.sent_ns if first else None),
        "to_first_content_s": _seconds(flip.done_ns, min(map(_first_content, news), default=None)),
        "posted": len(posted),
        "on_new": len(news),
        "rerouted": sum(course.is_rerouted(row) for row in posted),
        "late": sum(is_late(row, course) for row in posted),
        "open": len(across),
        "open_intact": sum(one.good for one in across),
        "open_handed_over": sum(course.is_handed_over(one.row) for one in across),
    }


def _around(flip: Flip, until_ns: int, settle_s: float, chunks: Sequence[Delivered]) -> dict[str, Any]:
    """Delivery by backend in the second before the flip, the one that it begins, and the one after that.

    A loss of the store belongs to the flip: `during` lasts until new messages may go there again, and a second more.
    """
    over_ns = WINDOW_NS + (flip.at_ns if flip.back_ns is None else flip.back_ns + round(settle_s * 1e9))
    spans = {
        "before": (flip.at_ns - WINDOW_NS, flip.at_ns),
        "during": (flip.at_ns, min(over_ns, until_ns)),
        "after": (over_ns, min(over_ns + WINDOW_NS, until_ns)),
    }
    return {name: _by_backend(chunks, *span) for name, span in spans.items()}


def _by_backend(chunks: Sequence[Delivered], low_ns: int, high_ns: int) -> dict[str, Any]:
    first, last = (bisect_left(chunks, edge_ns, key=lambda one: one.at_ns) for edge_ns in (low_ns, high_ns))
    inside = chunks[first:last]
    names = sorted({one.backend for one in inside})
    return {name: _spread([one.took_ns for one in inside if name in (EVERY, one.backend)]) for name in (EVERY, *names)}


def _spread(values_ns: Sequence[int]) -> dict[str, Any]:
    found = Distribution(values_ns)
    return {"p50": found.percentile_s(50), "p99": found.percentile_s(99), "count": found.count}


def _delivered(streams: Sequence[Measured], offset: Offset) -> Iterator[Delivered]:
    for row in (one.row for one in streams if one.good and not one.row.slow):
        events = zip(row.kinds, row.produced_ns, row.received_ns, live(row, offset), strict=True)
        for kind, made_ns, at_ns, is_live in events:
            if kind == "content" and is_live:
                yield Delivered(at_ns, at_ns - made_ns - offset.offset_ns, row.backend)


def _is_open(row: StreamRow, at_ns: int) -> bool:
    return bool(row.opened_ns and row.opened_ns <= at_ns < (row.closed_ns or END_OF_TIME_NS))


def _first_content(row: StreamRow) -> int:
    pairs = zip(row.kinds, row.received_ns, strict=True)
    return next((at_ns for kind, at_ns in pairs if kind == "content"), END_OF_TIME_NS)


def _seconds(from_ns: int | None, until_ns: int | None) -> float | None:
    if from_ns is None or until_ns is None or until_ns == END_OF_TIME_NS:
        return None
    return (until_ns - from_ns) / 1e9
