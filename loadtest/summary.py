"""Rows to statistics: pure. What goes in is what the recorder wrote; what comes out is what the report prints."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from loadtest import usage
from loadtest.clock import Offset
from loadtest.integrity import Fault, faults, why_failed
from loadtest.live import live
from loadtest.plan import BLOCKS_EACH, Plan
from loadtest.recorder import GeneratorRow, Recording, StreamRow
from loadtest.stats import Distribution, log_ratio_interval, peak
from loadtest.usage import BlockCounters

RATIOS = {"p50": 50.0, "p95": 95.0, "p99": 99.0}


class Measured(NamedTuple):
    """One stream with its verdict."""

    row: StreamRow
    faults: frozenset[Fault]

    @property
    def measured(self) -> bool:
        """Whether the backends' figures rest on it: no warm-up, no first stream after a switch, no twin, not slow."""
        return self.row.counted and not self.row.twin and not self.row.slow

    @property
    def good(self) -> bool:
        """Complete and intact: only such a stream's durations are averaged; the others count as lost."""
        return not self.faults


def measure(rows: Iterable[StreamRow]) -> list[Measured]:
    """Judge every stream."""
    return [Measured(row, faults(row)) for row in rows]


def backend(
    name: str, streams: Sequence[Measured], offset: Offset, counters: Sequence[BlockCounters], plan: Plan
) -> dict[str, Any]:
    """The figures of one backend, over the streams that count (warm-ups and the first after a switch do not)."""
    played = played_by(name, streams)
    watched = [one for one in played if one.row.counted]
    counted = [one for one in watched if one.measured]
    chunks = sum(one.row.kinds.count("content") for one in counted)
    busy_s = _busy_s(one.row for one in played)
    return {
        "streams": len(watched),
        "chunks": chunks,
        "chunks_per_s": sum(one.row.kinds.count("content") for one in played) / busy_s if busy_s else None,
        "delivery_latency_s": delivery_latency(counted, offset).as_json(),
        **_per_stream(counted, offset),
        "inter_chunk_latency_s": inter_chunk_latency(counted, offset).as_json(),
        "peak_concurrency": peak(_open(one.row for one in played)),
        "by_quartet": by_quartet(counted, offset),
        **usage.server_counters(name, counters, plan),
        "integrity": integrity(watched),
        "failures": dict(Counter(why for one in watched if (why := why_failed(one.row))).most_common(10)),
    }


def played_by(name: str, streams: Iterable[Measured]) -> list[Measured]:
    """All streams of a backend but those of warm-ups and twins."""
    return [one for one in streams if one.row.backend == name and one.row.quartet is not None and not one.row.twin]


def delivery_latency(streams: Iterable[Measured], offset: Offset) -> Distribution:
    """Producer held the last delta of the chunk → client parsed the event, for every content chunk seen live.

    A model that is asked directly does not say when it held one.
    """
    found = Distribution()
    for one in streams:
        row = one.row
        if row.protocol == "openai":
            continue
        received = row.kinds.count("content")
        if not one.good:
            # A broken stream's chunks are all in doubt; a stream that never began would have had its planned ones.
            found.lost += max(received, row.planned_chunks or 1)
            continue
        for value_ns in deliveries_ns(row, offset):
            found.add(value_ns)
    return found


def deliveries_ns(row: StreamRow, offset: Offset) -> list[int]:
    """How long each content chunk that was seen live took to the client."""
    events = zip(row.kinds, row.produced_ns, row.received_ns, live(row, offset), strict=True)
    return [
        received_ns - produced_ns - offset.offset_ns
        for kind, produced_ns, received_ns, is_live in events
        if kind == "content" and is_live
    ]


def inter_chunk_latency(streams: Iterable[Measured], offset: Offset) -> Distribution:
    """From one content event to the next at the client, unless that had waited for a viewer who was not there."""
    found = Distribution()
    for one in streams:
        for gap_ns in gaps_ns(one.row, offset) if one.good else ():
            found.add(gap_ns)
        found.lost += 0 if one.good else max(one.row.kinds.count("content"), one.row.planned_chunks or 1) - 1
    return found


def gaps_ns(row: StreamRow, offset: Offset) -> list[int]:
    """From each content event to the next that was seen live."""
    events = zip(row.kinds, row.received_ns, live(row, offset), strict=True)
    contents = [(at_ns, is_live) for kind, at_ns, is_live in events if kind == "content"]
    return [after - before for (before, _), (after, is_live) in pairwise(contents) if is_live]


def integrity(streams: Sequence[Measured]) -> dict[str, int]:
    """How many streams were intact, and how many had each fault (one stream may have several)."""
    counts = Counter(fault for one in streams for fault in one.faults)
    return {"intact": sum(one.good for one in streams), **{fault.value: counts[fault] for fault in Fault}}


def comparison(baseline: str, candidate: str, streams: Sequence[Measured], offset: Offset) -> dict[str, Any]:
    """candidate ÷ baseline of the delivery latency: below 1, the candidate is faster."""
    ours, theirs = (
        by_quartet([one for one in streams if one.row.backend == name and one.measured], offset)
        for name in (candidate, baseline)
    )
    ratios = {
        f"delivery_latency_{label}_ratio": log_ratio_interval(
            log_ratios(theirs[f"delivery_latency.{label}"], ours[f"delivery_latency.{label}"])
        )
        for label in RATIOS
    }
    return {"baseline": baseline, "candidate": candidate, **ratios}


def noise_floor(streams: Sequence[Measured], offset: Offset) -> dict[str, Any] | None:
    """A' ÷ A of the delivery latency, the same backend twice: what this run calls a difference where none is."""
    twins = [one for one in streams if one.row.twin and one.row.counted and not one.row.slow]
    doubled = {(one.row.quartet, one.row.backend) for one in twins}
    firsts = [one for one in streams if one.measured and (one.row.quartet, one.row.backend) in doubled]
    if not twins:
        return None
    before, after = by_quartet(firsts, offset), by_quartet(twins, offset)
    names = {label: f"delivery_latency.{label}" for label in RATIOS}
    return {label: log_ratio_interval(log_ratios(before[name], after[name])) for label, name in names.items()}


def by_quartet(counted: Iterable[Measured], offset: Offset) -> dict[str, list[float | None]]:
    """One figure per quartet and metric: the geometric mean of its two blocks, so that a linear drift cancels.

    Null where a block is missing or measured nothing. This is the unit of every interval: chunks of one block are
    far from independent of each other, quartets nearly so.
    """
    blocks: dict[int, dict[int, list[Measured]]] = {}
    for one in counted:
        if one.row.quartet is not None:
            blocks.setdefault(one.row.quartet, {}).setdefault(one.row.block, []).append(one)
    quartets = [blocks.get(quartet, {}) for quartet in range(max(blocks, default=-1) + 1)]
    found: dict[str, list[float | None]] = {}
    for values in dict.fromkeys([*(values for values, _ in UNITS.values()), *MEANS.values()]):
        spreads = [[values(members, offset) for members in one.values()] for one in quartets]
        for name, (of, percent) in UNITS.items():
            if of is values:
                found[name] = [_geometric_mean([one.percentile_s(percent) for one in pair]) for pair in spreads]
        for name in (name for name, of in MEANS.items() if of is values):
            found[name] = [_geometric_mean([one.mean_s for one in pair]) for pair in spreads]
    return found


def log_ratios(before: Sequence[float | None], after: Sequence[float | None]) -> list[float]:
    """log(after ÷ before) of every quartet that has both."""
    return [math.log(two / one) for one, two in zip(before, after, strict=False) if one is not None and two is not None]


def _geometric_mean(pair: Sequence[float | None]) -> float | None:
    known = [value for value in pair if value is not None]
    return statistics.geometric_mean(known) if len(known) == len(pair) == BLOCKS_EACH else None


def _per_stream(counted: Sequence[Measured], offset: Offset) -> dict[str, Any]:
    def spread(value: Callable[[StreamRow], int | None]) -> dict[str, Any]:
        return per_stream(counted, value).as_json()

    return {
        "ttfb_s": spread(ttfb_ns),
        "ttft_s": spread(ttft_ns),
        "ttft_corrected_s": spread(lambda row: _minus(_first_content(row), row.intended_ns)),
        "overhead_ttft_s": spread(overhead_ttft_ns),
        "e2e_s": spread(lambda row: _minus(row.terminal_ns, row.sent_ns)),
        "queue_wait_s": spread(lambda row: queue_wait_ns(row, offset)),
        "start_lag_s": spread(lambda row: _minus(row.sent_ns, row.intended_ns)),
    }


def per_stream(streams: Iterable[Measured], value: Callable[[StreamRow], int | None]) -> Distribution:
    """One duration of every intact stream of a viewer who asked; of these, the others count as lost."""
    found = Distribution()
    for one in (each for each in streams if not each.row.viewer):
        duration = value(one.row) if one.good else None
        if duration is not None:
            found.add(duration)
        found.lost += not one.good
    return found


def ttfb_ns(row: StreamRow) -> int | None:
    """First byte of the event stream − POST."""
    return None if _away_at_first(row) else _minus(row.first_byte_ns, row.sent_ns)


def ttft_ns(row: StreamRow) -> int | None:
    """First non-empty content event − POST."""
    return _minus(_first_content(row), row.sent_ns)


def overhead_ttft_ns(row: StreamRow) -> int | None:
    """What the system adds to the model's own time to first token."""
    if row.committed is None:
        return None
    return _minus(ttft_ns(row), _minus(row.committed.first_delta_ns, row.committed.requested_ns))


def queue_wait_ns(row: StreamRow, offset: Offset) -> int | None:
    """Task accepted by a worker (the server's clock) − POST (ours)."""
    waited = _minus(row.committed.accepted_ns, row.sent_ns) if row.committed else None
    return None if waited is None else waited + offset.offset_ns


def _away_at_first(row: StreamRow) -> bool:
    """Whether the viewer had lost its connection before anything came: what it waited for then is not the system."""
    return bool(row.resumes) and not row.resumes[0].events_before


def _first_content(row: StreamRow) -> int | None:
    if _away_at_first(row):
        return None
    events = zip(row.kinds, row.contents, row.received_ns, strict=True)
    return next((at_ns for kind, content, at_ns in events if kind == "content" and content), None)


def _open(rows: Iterable[StreamRow]) -> list[tuple[int, int]]:
    return [(row.opened_ns, row.closed_ns) for row in rows if row.opened_ns and row.closed_ns]


def _busy_s(rows: Iterable[StreamRow]) -> float:
    """The time during which this backend's blocks were being played."""
    spans: dict[int, tuple[int, int]] = {}
    for row in rows:
        if row.sent_ns and row.closed_ns:
            low, high = spans.get(row.block, (row.sent_ns, row.closed_ns))
            spans[row.block] = (min(low, row.sent_ns), max(high, row.closed_ns))
    return sum(high - low for low, high in spans.values()) / 1e9


def _minus(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier


def lost_with_the_generator(
    plan: Plan,
    accounts: Iterable[GeneratorRow],
    started: Iterable[int],
    written: Iterable[StreamRow] = (),
    generators: int = 1,
) -> list[StreamRow]:
    """Censored rows for the streams of a block that began and were never written: a generator was killed in it."""
    told = Counter(account.block for account in accounts)
    closed = {block for block, count in told.items() if count >= generators}
    known = {(row.block, row.arrival) for row in written}
    return [
        Recording(plan.blocks[index], number, 0, viewer).row("censored", "the load generator died")
        for index in started
        if index not in closed
        for number, arrival in enumerate(plan.blocks[index].arrivals)
        if (index, number) not in known
        for viewer in range(len(arrival.viewers))
    ]


_Values = Callable[[Sequence[Measured], Offset], Distribution]
# What is known per quartet, and so can be compared between runs with an interval.
UNITS: dict[str, tuple[_Values, float]] = {
    **{f"delivery_latency.{label}": (delivery_latency, percent) for label, percent in RATIOS.items()},
    "ttfb.p50": (lambda streams, _offset: per_stream(streams, ttfb_ns), 50.0),
    "overhead_ttft.p50": (lambda streams, _offset: per_stream(streams, overhead_ttft_ns), 50.0),
}
# Averages, by which others publish: known per quartet too, but no gate rests on what one slow chunk can move.
MEANS: dict[str, _Values] = {
    "delivery_latency.mean": delivery_latency,
    "ttfb.mean": UNITS["ttfb.p50"][0],
    "overhead_ttft.mean": UNITS["overhead_ttft.p50"][0],
}
