"""Rows to what the plots show: curves, cells and steps. Pure, and about the same streams as `summary`."""

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from loadtest import summary
from loadtest.clock import Offset
from loadtest.counters import store_calls_between
from loadtest.host import HostSample
from loadtest.live import live
from loadtest.plan import Plan
from loadtest.recorder import GeneratorRow, StreamRow
from loadtest.stats import log_ratio_interval
from loadtest.summary import Measured, log_ratios
from loadtest.usage import BlockCounters

CURVE_POINTS = 240
LEAST_S = 1e-6
"""Where a logarithmic axis begins; what is shorter, or negative between two hosts' clocks, counts as this."""

Point = tuple[float, float | None]


class Sample(NamedTuple):
    """Durations in seconds, in order, and how many never ended."""

    values: list[float]
    lost: int

    @property
    def total(self) -> int:
        """All of them."""
        return len(self.values) + self.lost


class Moment(NamedTuple):
    """One chunk: when it came, in seconds since its backend's first block began, and how long it took."""

    at_s: float
    took_s: float


class Cells(NamedTuple):
    """Counts by column (time) and row (duration), between these edges."""

    times: list[float]
    durations: list[float]
    counts: list[list[int]]


class PerBlock(NamedTuple):
    """What the servers and the machine counted while one block was played; null where nobody counted."""

    block: int
    backend: str
    twin: bool
    at_s: float
    queries_per_s: float | None
    store_ops_per_s: float | None
    busy_share: float | None
    steal_share: float | None
    generator_share: float | None


def deliveries(streams: Iterable[Measured], offset: Offset) -> Sample:
    """Delivery latency of every content chunk; a broken stream's chunks all count as lost.

    A model that is asked directly does not say when it held one.
    """
    values: list[float] = []
    lost = 0
    for one in (each for each in streams if each.row.protocol != "openai"):
        if one.good:
            values += [took for _, took in _chunks(one.row, offset)]
        else:
            lost += max(one.row.kinds.count("content"), one.row.planned_chunks or 1)
    return Sample(sorted(values), lost)


def gaps(streams: Iterable[Measured], offset: Offset) -> Sample:
    """From one content event to the next; of a broken stream all count as lost."""
    values: list[float] = []
    lost = 0
    for one in streams:
        if one.good:
            values += [max(LEAST_S, gap_ns / 1e9) for gap_ns in summary.gaps_ns(one.row, offset)]
        else:
            lost += max(one.row.kinds.count("content"), one.row.planned_chunks or 1) - 1
    return Sample(sorted(values), lost)


def durations(streams: Sequence[Measured], value: Callable[[StreamRow], int | None]) -> Sample:
    """One duration of every intact stream; the others count as lost."""
    found = [duration for one in streams if one.good and (duration := value(one.row)) is not None]
    return Sample(sorted(max(LEAST_S, one / 1e9) for one in found), sum(not one.good for one in streams))


def by_percentile(sample: Sample) -> list[Point]:
    """(percentile, seconds), denser towards the end, up to the one value above which there is no other.

    Lost ones count as infinite, so with some the curve ends where the first of them would stand.
    """
    total, count = sample.total, len(sample.values)
    if not count:
        return []
    nines = math.log10(total) if total > 1 else 0.1
    percents = [100 * (1 - 10 ** (-nines * step / CURVE_POINTS)) for step in range(CURVE_POINTS + 1)]
    ranks = [max(1, math.ceil(percent * total / 100 - 1e-9)) for percent in percents]
    return [(percent, sample.values[rank - 1]) for percent, rank in zip(percents, ranks, strict=True) if rank <= count]


def at_percentile(sample: Sample, percent: float) -> float | None:
    """By nearest rank among all, lost ones last; null where that is one of them, or where there is none."""
    rank = max(1, math.ceil(percent * sample.total / 100 - 1e-9))
    return sample.values[rank - 1] if rank <= len(sample.values) else None


def cumulative(sample: Sample) -> list[Point]:
    """(seconds, share of all in per cent that took no longer). It does not reach 100 if some never ended."""
    count = len(sample.values)
    ranks = (
        sorted({math.ceil(count * step / CURVE_POINTS) for step in range(1, CURVE_POINTS + 1)} | {1}) if count else []
    )
    return [(sample.values[rank - 1], 100 * rank / sample.total) for rank in ranks]


def moments(streams: Iterable[Measured], offset: Offset) -> tuple[list[Moment], list[float]]:
    """Every chunk of one backend, with its blocks joined end to end; and where each of them begins."""
    blocks: dict[int, list[Moment]] = {}
    for one in streams:
        if one.good:
            found = [Moment(at_ns / 1e9, took) for at_ns, took in _chunks(one.row, offset)]
            blocks.setdefault(one.row.block, []).extend(found)
    played = [sorted(blocks[block]) for block in sorted(blocks) if blocks[block]]
    begins = [0.0, *accumulate(block[-1].at_s - block[0].at_s for block in played)]
    joined = [
        Moment(begin + one.at_s - block[0].at_s, one.took_s)
        for begin, block in zip(begins, played, strict=False)
        for one in block
    ]
    return joined, begins


def cells(found: Sequence[Moment], until_s: float, limits: tuple[float, float], columns: int, rows: int) -> Cells:
    """How many chunks lie in each cell; the rows are equal ratios."""
    low, high = limits
    times = [until_s * column / columns for column in range(columns + 1)]
    edges = [low * (high / low) ** (row / rows) for row in range(rows + 1)]
    counts = [[0] * rows for _ in range(columns)]
    for one in found:
        column = min(columns - 1, max(0, bisect.bisect_right(times, one.at_s) - 1))
        row = min(rows - 1, max(0, bisect.bisect_right(edges, one.took_s) - 1))
        counts[column][row] += 1
    return Cells(times, edges, counts)


def open_streams(rows: Iterable[StreamRow], began_ns: int, bin_s: float) -> list[Point]:
    """(second of the run, most streams open at once in this bin), null while none is open."""
    steps = sorted(
        (at_ns, change)
        for row in rows
        if row.opened_ns and row.closed_ns
        for at_ns, change in ((row.opened_ns, 1), (row.closed_ns, -1))
    )
    most: dict[int, int] = {}
    height = 0
    for (at_ns, change), (until_ns, _) in pairwise([*steps, (steps[-1][0], 0)] if steps else []):
        height += change
        if not height:
            continue
        first, last = (math.floor((one - began_ns) / 1e9 / bin_s) for one in (at_ns, until_ns))
        for place in range(first, last + 1):
            most[place] = max(most.get(place, 0), height)
    return _over_time(most, bin_s)


def chunks_per_second(rows: Iterable[StreamRow], began_ns: int, bin_s: float) -> list[Point]:
    """(second of the run, content events received per second in this bin), null while there are none."""
    counts: dict[int, int] = {}
    for row in rows:
        for kind, at_ns in zip(row.kinds, row.received_ns, strict=True):
            if kind == "content":
                place = math.floor((at_ns - began_ns) / 1e9 / bin_s)
                counts[place] = counts.get(place, 0) + 1
    return _over_time({place: count / bin_s for place, count in counts.items()}, bin_s)


def percentile_over_time(
    streams: Iterable[Measured], offset: Offset, began_ns: int, bin_s: float, percent: float
) -> list[Point]:
    """(second of the run, this percentile of the chunks received in this bin), null while there are none."""
    bins: dict[int, list[float]] = {}
    for one in streams:
        if one.good:
            for at_ns, took in _chunks(one.row, offset):
                bins.setdefault(math.floor((at_ns - began_ns) / 1e9 / bin_s), []).append(took)
    found = {place: at_percentile(Sample(sorted(values), 0), percent) for place, values in bins.items()}
    return _over_time({place: value for place, value in found.items() if value is not None}, bin_s)


def per_block(
    plan: Plan, counters: Sequence[BlockCounters], host: Sequence[HostSample], generator: Sequence[GeneratorRow]
) -> list[PerBlock]:
    """What was counted while each block was played; host samples are taken before the first and after each."""
    accounts = {one.block: one for one in generator}
    began_ns = min((one.before.at_ns for one in counters), default=0)
    found = []
    for number, one in enumerate(counters):
        block, wall_s = plan.blocks[one.block], (one.after.at_ns - one.before.at_ns) / 1e9
        before, after = (host[number], host[number + 1]) if number + 1 < len(host) else (None, None)
        account = accounts.get(one.block)
        queries = _grown(one.before.transactions, one.after.transactions)
        calls = store_calls_between(one.before, one.after)
        idle = _host_share(before, after, "idle_ticks")
        found.append(
            PerBlock(
                block=one.block,
                backend=block.backend,
                twin=block.twin,
                at_s=((one.before.at_ns + one.after.at_ns) / 2 - began_ns) / 1e9,
                queries_per_s=_per(queries, wall_s),
                store_ops_per_s=_per(None if calls is None else sum(calls.values()), wall_s),
                busy_share=None if idle is None else 1 - idle,
                steal_share=_host_share(before, after, "steal_ticks"),
                generator_share=_per(account.cpu_ns, account.ended_ns - account.began_ns) if account else None,
            )
        )
    return found


def ratio(
    by_quartet: Mapping[str, Mapping[str, Sequence[float | None]]], baseline: str, candidate: str, metric: str
) -> dict[str, float | int | None]:
    """candidate ÷ baseline of a metric, by the quartets that both have."""
    before, after = (by_quartet[name].get(metric, []) for name in (baseline, candidate))
    return log_ratio_interval(log_ratios(before, after))


def _chunks(row: StreamRow, offset: Offset) -> list[tuple[int, float]]:
    """(received, seconds taken) of every content chunk that was seen live and of which it is known when it was made."""
    if row.protocol == "openai":
        return []
    events = zip(row.kinds, row.produced_ns, row.received_ns, live(row, offset), strict=True)
    return [
        (received_ns, max(LEAST_S, (received_ns - produced_ns - offset.offset_ns) / 1e9))
        for kind, produced_ns, received_ns, is_live in events
        if kind == "content" and is_live
    ]


def _over_time(bins: Mapping[int, float], bin_s: float) -> list[Point]:
    """Bins in order as steps; what is missing between two interrupts the line."""
    points: list[Point] = []
    for place in sorted(bins):
        if points and place - 1 not in bins:
            points.append((points[-1][0], None))
        points += [(place * bin_s, bins[place]), ((place + 1) * bin_s, bins[place])]
    return points


def _host_share(before: HostSample | None, after: HostSample | None, name: str) -> float | None:
    if before is None or after is None:
        return None
    part, whole = (_grown(getattr(before, key), getattr(after, key)) for key in (name, "cpu_ticks"))
    return _per(part, whole or 0)


def _per(amount: float | None, whole: float) -> float | None:
    return amount / whole if amount is not None and whole else None


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
