"""The arithmetic of the benchmarks: what a delta and a stream cost, and how far a system goes. Pure."""

import math
import statistics
from collections.abc import Callable, Sequence

import msgspec

from loadtest.bench.load import Point

OBJECTIVE_S = 0.05
"""The delivery latency whose p99 a system has to keep, for its number of streams to count."""
KEPT_UP = 0.9
"""Delivering less than this share of what the model made is being saturated."""
CLOSE_ENOUGH = 1.1
"""The search ends when what held and what did not are this close."""
LEAST = 10
"""With fewer streams than this the search no longer asks."""
CLIENT = "client"
LEAST_CPU_S = 0.1
"""Less than this is ten ticks of the clock by which the kernel tells it, and as a figure a guess."""
LEAST_GROWTH_BYTES = 64 << 12
"""A process that grew by fewer pages than these may have grown for anything."""
ENOUGH = 20
"""Values without which there is no 95th percentile."""


def cpu_us(point: Point) -> dict[str, float | None]:
    """Processor time per delta of the model that was delivered, in microseconds by kind of process; null without one.

    Per delta and not per chunk, since a chunk of a system that coalesces carries the work of several.
    """
    deltas = point.found.deltas
    return {kind: 1e6 * used / deltas if deltas else None for kind, used in point.found.cpu_s.items()}


def is_countable(point: Point, kind: str) -> bool:
    """Tell whether the processes of a kind used enough of the processor for the use to be divided by anything."""
    return point.found.cpu_s.get(kind, 0.0) >= LEAST_CPU_S


def coalesced(point: Point) -> float | None:
    """How many deltas a chunk carried on average."""
    return ratio(point.found.deltas, point.found.chunks)


def system_cpu_us(point: Point) -> float | None:
    """The same of everything but the load: worker, API, servers and the scripted model."""
    each = [used for kind, used in cpu_us(point).items() if kind != CLIENT]
    known = [used for used in each if used is not None]
    return sum(known) if known else None


def stream_bytes(point: Point, kind: str) -> float | None:
    """Memory of one open stream in the processes of a kind: what they grew by, over the streams then open."""
    found = point.found
    if kind not in found.rss_after or not found.open_streams:
        return None
    return (found.rss_after[kind] - found.rss_before[kind]) / found.open_streams


def has_grown(point: Point, kind: str) -> bool:
    """Tell whether the processes of a kind grew by more than they may grow for other reasons."""
    found = point.found
    return kind in found.rss_after and found.rss_after[kind] - found.rss_before[kind] >= LEAST_GROWTH_BYTES


class Spread(msgspec.Struct, frozen=True):
    """The median and the 95th percentile of some values, by nearest rank; null of too few."""

    p50: float
    p95: float | None


def spread(values: Sequence[float]) -> Spread:
    """Give the spread of at least one value."""
    ordered = sorted(values)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1] if len(ordered) >= ENOUGH else None
    return Spread(statistics.median(ordered), p95)


def ratio(value: float | None, base: float | None) -> float | None:
    """How many times the base; null where one is missing."""
    return value / base if value is not None and base else None


def holds(point: Point) -> bool:
    """Tell whether the objective was kept, by streams that were all intact and kept up with the model."""
    p99 = point.found.delivery_latency_s.p99
    return point.is_whole and not is_saturated(point) and p99 is not None and p99 < OBJECTIVE_S


def is_saturated(point: Point) -> bool:
    """Tell whether less arrived than the model made."""
    return point.found.deltas_per_s < KEPT_UP * point.load.offered


class Capacity(msgspec.Struct, frozen=True):
    """The most streams that held and the fewest that did not (null: no failure in range); the most deltas/s seen."""

    held: int
    failed: int | None
    deltas_per_s: float
    saturated: bool
    points: list[Point]


def search(play: Callable[[int], Point], start: int, limit: int) -> Capacity:
    """Double until the objective fails and the system is saturated, then close in on the objective's edge."""
    points: list[Point] = []
    held, failed = 0, None

    def does_hold(streams: int) -> bool:
        points.append(play(streams))
        return holds(points[-1])

    streams = start
    while streams <= limit:
        kept = does_hold(streams)
        held, failed = (streams, None) if kept and failed is None else (held, failed or streams)
        if failed is not None and is_saturated(points[-1]):
            break
        streams *= 2
    while failed is not None and not held and failed >= 2 * LEAST:
        held, failed = (failed // 2, failed) if does_hold(failed // 2) else (0, failed // 2)
    while failed is not None and held and failed > CLOSE_ENOUGH * held:
        middle = (held + failed) // 2
        held, failed = (middle, failed) if does_hold(middle) else (held, middle)
    most = max(one.found.deltas_per_s for one in points)
    return Capacity(held, failed, most, any(map(is_saturated, points)), points)


def of(points: Sequence[Point], system: str) -> Point | None:
    """The point of this system among those of one load."""
    return next((one for one in points if one.system == system), None)
