"""The most concurrent streams that keep an objective, per backend, and the law that the measured points follow.

Each level is a run of the Locust instrument: POST, stream, turnover, and the committed message read back. Arrivals are
open, a stream's length divided by the level apart, so that about so many are open at once; the streams that count begin
after the first have ended, and others follow them, so that all of them meet the whole load. What is reported as
concurrency is what was open in that window, not what was asked for.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from loadtest import objective, summary, usl, verdict
from loadtest.clock import Offset
from loadtest.host import HostSample
from loadtest.objective import Checked, Clause
from loadtest.plan import MODEL_TTFT_S, PROMPTS, Arrival, Block, Plan
from loadtest.recorder import GeneratorRow, StreamRow
from loadtest.stats import Distribution
from loadtest.verdict import Verdict

KEPT_UP = 0.9
"""Delivering less than this share of what the model makes is being saturated."""
CLOSE_ENOUGH = 1.1
"""The search ends when what held and what did not are this close."""
SLACK_S = 10.0
UNTRUSTED = (Verdict.GENERATOR_LIMITED, Verdict.CENSORED)
"""A level at which the load itself was late or cut off did not meet the load that it stands for."""


class Shape(msgspec.Struct, frozen=True):
    """What a level consists of: streams of so many seconds and chunks a second, counted for `window_s`."""

    stream_s: float
    window_s: float
    chunk_rate: float
    model: str | None
    seed: int

    @property
    def chunks(self) -> int:
        """Of one stream."""
        return max(2, round(self.stream_s * self.chunk_rate))

    @property
    def lasts_s(self) -> float:
        """From a stream's POST to its end, if the system adds nothing."""
        return MODEL_TTFT_S + self.chunks / self.chunk_rate


class Level(msgspec.Struct, frozen=True):
    """One load on one backend and what was measured. `holds` if every clause is kept and the load can be trusted."""

    streams: int
    concurrency: float
    deltas_per_s: float
    offered_per_s: float
    checks: list[Checked]
    holds: bool
    verdict: Verdict
    reasons: list[str]
    figures: dict[str, Any]

    @property
    def keeps_up(self) -> bool:
        """Whether what the model made arrived."""
        return self.deltas_per_s >= KEPT_UP * self.offered_per_s


class Capacity(msgspec.Struct, frozen=True):
    """The most streams that held at every try (0: none) and the fewest that did not (null: no failure in range)."""

    held: int
    failed: int | None
    levels: list[Level]
    law: usl.Fit | None

    @property
    def failed_by_load(self) -> bool:
        """Whether it failed only because the load generator reached its own limit: the system may hold more."""
        tries = [level for level in self.levels if level.streams == self.failed]
        return bool(tries) and all(level.verdict in UNTRUSTED for level in tries)


class Document(msgspec.Struct, frozen=True):
    """`capacity.json`."""

    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    objective: list[Clause]
    shape: Shape
    backends: dict[str, Capacity]
    kind: Literal["capacity"] = "capacity"
    schema: int = 1


class Played(NamedTuple):
    """What a level's run left behind."""

    plan: Plan
    streams: Sequence[StreamRow]
    generator: Sequence[GeneratorRow]
    host: Sequence[HostSample]
    offset: Offset
    offset_after: Offset


def plan(shape: Shape, backend: str, streams: int) -> Plan:
    """One block that keeps about so many streams open: a lead, the streams that count, and as many behind them."""
    rng = random.Random(f"{shape.seed}/{streams}")  # noqa: S311
    gap_s = shape.lasts_s / streams
    first, last = shape.lasts_s, shape.lasts_s + shape.window_s
    count = max(streams + 1, round((last + shape.lasts_s) / gap_s))
    arrivals = tuple(
        Arrival(
            at_s=index * gap_s,
            backend=backend,
            model=_model(shape, rng),
            max_tokens=shape.chunks,
            prompt=rng.choice(PROMPTS),
            chunks=shape.chunks,
            counted=first <= index * gap_s < last,
        )
        for index in range(count)
    )
    timeout_s = 2 * shape.lasts_s + SLACK_S
    return Plan(shape.seed, timeout_s, (Block(0, backend, 0, 0, arrivals),))


def level(shape: Shape, clauses: Sequence[Clause], backend: str, streams: int, played: Played) -> Level:
    """The figures of one level: concurrency and throughput within the window, durations of the streams that count."""
    measured = summary.measure(played.streams)
    figures = summary.backend(backend, measured, played.offset, [], played.plan)
    began_ns = min((row.intended_ns for row in played.streams), default=0)
    window = (began_ns + round(shape.lasts_s * 1e9), began_ns + round((shape.lasts_s + shape.window_s) * 1e9))
    lags = Distribution(
        one.row.sent_ns - one.row.intended_ns for one in measured if one.row.counted and one.row.sent_ns is not None
    )
    found = verdict.evidence(lags, played.generator, played.host, played.offset, played.offset_after)
    judged, reasons = verdict.judge(found, {backend: figures}, None, interrupted=False)
    checks = objective.check(clauses, figures)
    concurrency, deltas_per_s = open_on_average(played.streams, window), received_per_s(played.streams, window)
    offered_per_s = streams * shape.chunks / shape.lasts_s
    kept = all(one.kept for one in checks) and deltas_per_s >= KEPT_UP * offered_per_s
    return Level(
        streams=streams,
        concurrency=concurrency,
        deltas_per_s=deltas_per_s,
        offered_per_s=offered_per_s,
        checks=checks,
        holds=kept and judged not in UNTRUSTED,
        verdict=judged,
        reasons=reasons,
        figures=figures,
    )


def open_on_average(rows: Sequence[StreamRow], window: tuple[int, int]) -> float:
    """How many streams were open at the client, over the window."""
    low, high = window
    spans = [(row.opened_ns, row.closed_ns) for row in rows if row.opened_ns and row.closed_ns]
    return sum(max(0, min(high, closed) - max(low, opened)) for opened, closed in spans) / (high - low)


def received_per_s(rows: Sequence[StreamRow], window: tuple[int, int]) -> float:
    """Deltas of the model that came within the window, a second: several share an event where they were coalesced."""
    low, high = window
    count = sum(
        deltas
        for row in rows
        for kind, at_ns, deltas in zip(row.kinds, row.received_ns, row.deltas, strict=True)
        if low <= at_ns < high and kind == "content"
    )
    return 1e9 * count / (high - low)


def search(play: Callable[[int], Level], start: int, limit: int, repeats: int) -> Capacity:
    """Double until it fails, look once beyond, bisect, then repeat the edge: it holds if every try of it does."""
    levels: list[Level] = []

    def holds(streams: int) -> bool:
        levels.append(play(streams))
        return levels[-1].holds

    streams = start
    while streams <= limit and holds(streams):
        streams *= 2
    if levels and not levels[-1].holds and levels[-1].keeps_up and 2 * streams <= limit:
        holds(2 * streams)  # where throughput bends tells the law most
    while (next_one := _next(levels, repeats)) is not None:
        holds(next_one)
    held, failed = edge(levels)
    return Capacity(held, failed, levels, law(levels))


def edge(levels: Sequence[Level]) -> tuple[int, int | None]:
    """The most streams below every failure that held at every try, and the fewest that failed."""
    failed = min((one.streams for one in levels if not one.holds), default=None)
    return max((one.streams for one in levels if failed is None or one.streams < failed), default=0), failed


def _next(levels: Sequence[Level], repeats: int) -> int | None:
    """The level to try: between what held and what did not while they are far apart, then the edge again."""
    held, failed = edge(levels)
    if failed is not None and failed - held > max(1, (CLOSE_ENOUGH - 1) * held):
        return (held + failed) // 2
    return held if held and sum(one.streams == held for one in levels) < repeats else None


def law(levels: Sequence[Level]) -> usl.Fit | None:
    """The law through all points, with a doubt for those whose load cannot be trusted."""
    found = usl.fit([(one.concurrency, one.deltas_per_s) for one in levels if one.concurrency >= 1])
    late = sum(one.verdict is not Verdict.VALID for one in levels)
    if found is None or not late:
        return found
    doubt = f"{late} of {len(levels)} points are not VALID: the load or the machine may be what bends the curve"
    return msgspec.structs.replace(found, doubts=[*found.doubts, doubt])


def save(made: Document, file: Path) -> None:
    """As JSON, to be read again by `read`."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")


def read(data: bytes) -> Document:
    """What `save` wrote; anything else raises msgspec.MsgspecError."""
    return msgspec.json.decode(data, type=Document)


def _model(shape: Shape, rng: random.Random) -> str | None:
    return shape.model and (
        f"{shape.model}?ttft={MODEL_TTFT_S}&gap={1 / shape.chunk_rate:.6g}&chunks={shape.chunks}"
        f"&seed={rng.randrange(10**6)}"
    )
