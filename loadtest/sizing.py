"""Measured costs to how much of everything a load takes. Pure arithmetic; every assumption is in the result.

Two sources: `perf` measured what a chunk costs each kind of process and what an open stream holds in memory, so each
kind is sized by itself; `capacity` measured how many streams a whole system held, so whole systems are counted.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from loadtest import capacity
from loadtest.bench import figures
from loadtest.bench.load import Point
from loadtest.bench.session import Results

GIB = 2**30
HEADERS = 66
"""TCP with its time stamps, IP and Ethernet around one small packet, in bytes."""
CHUNKED = 8
"""HTTP's frame around one piece of a body of a few hundred bytes."""
SERVES = ("api", "worker")
KINDS = ("api", "worker", "valkey", "postgres", "client")
ONE_THREAD = ("api", "worker", "valkey", "client")
"""A process of these uses one core at most: more load takes more of them. PostgreSQL takes more cores instead."""
NAMES = {
    "api": "API processes",
    "worker": "workers",
    "valkey": "Valkey shards",
    "postgres": "PostgreSQL, cores",
    "client": "load generators (lean)",
}
NEARLY = 1.05


class SizingError(ValueError):
    """The figures do not allow a plan; the message says what to measure."""


class Wanted(msgspec.Struct, frozen=True):
    """The load to plan for, and what no measurement says."""

    streams: int
    chunk_rate: float
    utilisation: float = 0.6
    viewers: float = 1.0
    stream_s: float = 20.0
    ttl_s: float = 3600.0
    chunk_chars: int = 6
    shard_bytes: int = 16 * GIB
    worker_streams: int = 2000

    @property
    def chunks_per_s(self) -> float:
        """That all streams together make."""
        return self.streams * self.chunk_rate


class Line(msgspec.Struct, frozen=True):
    """How many of one kind. `extrapolated` says how far that lies beyond what was measured; null when it does not."""

    kind: str
    count: int
    cpu_us_per_chunk: float
    cores: float
    memory_bytes: float | None
    decided_by: str
    extrapolated: str | None


class Link(msgspec.Struct, frozen=True):
    """Bits a second over one way, all of it together."""

    name: str
    bits_per_s: float


class Sizing(msgspec.Struct, frozen=True):
    """The plan of one backend."""

    backend: str
    lines: list[Line]
    links: list[Link]
    measured: str
    assumptions: list[str]


class Systems(msgspec.Struct, frozen=True):
    """The plan by whole systems: how many like the one that was measured; null where it held nothing."""

    backend: str
    count: int | None
    streams_each: int
    extrapolated: str | None
    measured: str
    assumptions: list[str]


def from_perf(results: Results, wanted: Wanted, backends: Sequence[str] = ()) -> list[Sizing]:
    """Each backend of a `perf` run (the floor and the reference are none), sized by its costs per chunk and stream."""
    names = [name for name in results.systems if name in (backends or results.systems[1:]) and name != "reference"]
    if not names:
        raise SizingError(f"none of the backends was measured: there are {', '.join(results.systems[1:])}")
    return [_sizing(name, results, wanted) for name in names]


def from_capacity(made: capacity.Document, wanted: Wanted, backends: Sequence[str] = ()) -> list[Systems]:
    """Each backend of a `capacity` search, as copies of the system that held its streams."""
    names = [name for name in made.backends if not backends or name in backends]
    if not names:
        raise SizingError(f"none of the backends was searched: there are {', '.join(made.backends)}")
    return [_systems(name, made, wanted) for name in names]


def record_bytes(chars: int) -> int:
    """The JSON of one stored chunk with so many characters of text, as the HTTP contract documents it."""
    record: dict[str, Any] = {
        "chunk_index": 100,
        "chunk_type": "content",
        "content": "x" * chars,
        "attempt": 1,
        "deltas": 1,
        "ts_ns": 10**18,
    }
    return len(json.dumps(record, separators=(",", ":")))


def event_bytes(chars: int) -> int:
    """The same as one event on the wire to a viewer, with every header around it."""
    return len("id: 100\ndata: \n\n") + record_bytes(chars) + CHUNKED + HEADERS


def _sizing(backend: str, results: Results, wanted: Wanted) -> Sizing:
    point, idle = _dearest(backend, results, wanted), figures.of(results.idle, backend)
    cpu = {kind: each for kind, each in figures.cpu_us(point).items() if each is not None}
    # The log of the chunks is where they cost most.
    stored_in = "valkey" if cpu.get("valkey", 0) >= cpu.get("postgres", 0) else "postgres"
    log_bytes = wanted.chunks_per_s * (wanted.stream_s + wanted.ttl_s) * record_bytes(wanted.chunk_chars)
    lines = [
        _line(kind, cpu[kind], point, idle, wanted, log_bytes if kind == stored_in else None)
        for kind in KINDS
        if kind in cpu
    ]
    load = point.load
    measured = (
        f"{load.streams} streams × {load.rate:g}/s on one API and one worker, {point.found.deltas_per_s:,.0f} "
        f"chunks/s, verdict {point.verdict}; {results.made_at}, {results.machine.get('cpu')}"
    )
    return Sizing(backend, lines, _links(wanted), measured, _assumptions(wanted, idle))


def _dearest(backend: str, results: Results, wanted: Wanted) -> Point:
    """The measured level nearest to the planned rate that the system kept up with; of those, the largest."""
    points = [point for level in results.levels if (point := figures.of(level, backend)) is not None]
    whole = [point for point in points if point.is_whole and not figures.is_saturated(point)]
    if not whole:
        raise SizingError(f"{backend} kept up at no measured level: measure fewer with 'streamgauge perf --streams'")
    return min(whole, key=lambda point: (abs(math.log(point.load.rate / wanted.chunk_rate)), -point.load.streams))


def _line(kind: str, cpu_us: float, point: Point, idle: Point | None, wanted: Wanted, log_bytes: float | None) -> Line:
    # Every viewer of a stream costs an API what one costs; the other processes do not see them.
    events = wanted.chunks_per_s * (wanted.viewers if kind in {"api", "client"} else 1)
    cores = events * cpu_us / 1e6
    counts = {"CPU": math.ceil(cores / wanted.utilisation)}
    if kind == "worker":
        counts["streams a worker may hold"] = math.ceil(wanted.streams / wanted.worker_streams)
    if kind == "valkey" and log_bytes is not None:
        counts["memory of the log"] = math.ceil(log_bytes / wanted.shard_bytes)
    decided_by = max(counts, key=lambda name: counts[name])
    count = max(1, counts[decided_by])
    memory = log_bytes if kind == "valkey" else None
    if kind in SERVES and idle is not None:
        each = figures.stream_bytes(idle, kind)
        memory = (
            None
            if each is None
            else count * idle.found.rss_before[kind] + each * wanted.streams * (wanted.viewers if kind == "api" else 1)
        )
    return Line(kind, count, cpu_us, cores, memory, decided_by, _beyond(kind, count, events, point, idle, wanted))


def _beyond(kind: str, count: int, events: float, point: Point, idle: Point | None, wanted: Wanted) -> str | None:
    """How much more one process is to carry than one carried when it was measured."""
    planned, measured = events / count, point.found.deltas_per_s
    found = []
    if planned > NEARLY * measured:
        found.append(f"{planned:,.0f} chunks/s each, {measured:,.0f} measured")
    if kind in SERVES:
        streams = wanted.streams / count
        most = max(point.load.streams, idle.found.open_streams if idle else 0)
        if streams > NEARLY * most:
            found.append(f"{streams:,.0f} streams each, {most:,} measured")
    return "; ".join(found) or None


def _links(wanted: Wanted) -> list[Link]:
    record, event = record_bytes(wanted.chunk_chars), event_bytes(wanted.chunk_chars)
    return [
        Link("API → viewers", 8 * wanted.chunks_per_s * wanted.viewers * event),
        Link("worker → store", 8 * wanted.chunks_per_s * record),
        Link("store → API", 8 * wanted.chunks_per_s * record),
    ]


def _assumptions(wanted: Wanted, idle: Point | None) -> list[str]:
    found = [
        f"Processes are planned to be busy {wanted.utilisation:.0%} of the time; the rest is for peaks and failures.",
        "Costs add up: twice the processes carry twice the load. One of each was measured, never many side by side.",
        "The costs hold the POSTs and turnover of streams of 20 s.",
        "One processor core is as fast as one of the measured machine, where the processes shared the cores.",
        f"{wanted.viewers:g} viewer(s) a stream; each costs an API what the first one costs.",
        f"A chunk has {wanted.chunk_chars} characters: {record_bytes(wanted.chunk_chars)} bytes stored, "
        f"{event_bytes(wanted.chunk_chars)} on the wire to a viewer, one packet each, no TLS. To and from the store "
        "headers are shared by batches and left out.",
        f"A worker holds {wanted.worker_streams:,} streams at most (STREAMGAUGE_WORKER_CONCURRENCY).",
        f"Streams last {wanted.stream_s:g} s and their log stays {wanted.ttl_s:,.0f} s (STREAMGAUGE_CHUNK_TTL_S): "
        f"{wanted.chunks_per_s * (wanted.stream_s + wanted.ttl_s):,.0f} chunks at once, without what the store adds to "
        f"each. A Valkey shard holds {wanted.shard_bytes / GIB:g} GiB of them; rows in PostgreSQL are on its disk.",
    ]
    if idle is not None:
        found.append(
            f"Memory is a young process's and the growth per open stream, at {idle.found.open_streams:,} streams of "
            f"{idle.load.rate:g} chunk/s."
        )
    return found


def _systems(backend: str, made: capacity.Document, wanted: Wanted) -> Systems:
    held, rate = made.backends[backend].held, made.shape.chunk_rate
    # Streams of another pace cost by their chunks.
    each = math.floor(held * wanted.utilisation * rate / wanted.chunk_rate)
    count = math.ceil(wanted.streams / each) if each else None
    beyond = [f"{count:,} systems side by side, 1 measured"] if count and count > 1 else []
    if wanted.chunk_rate != rate:
        beyond.append(f"{wanted.chunk_rate:g} chunks/s a stream, {rate:g} measured")
    parts = [f", {name}: {made.settings[name]}" for name in ("workers", "apis") if name in made.settings]
    measured = (
        f"{held:,} streams × {rate:g}/s held {', '.join(map(str, made.objective))} on {made.machine.get('cores')} cores"
        f"{''.join(parts)}, the load on the same machine; {made.made_at}"
    )
    return Systems(
        backend=backend,
        count=count,
        streams_each=each,
        extrapolated="; ".join(beyond) or None,
        measured=measured,
        assumptions=[
            f"Each system is given {wanted.utilisation:.0%} of what it held; the rest is for peaks and failures.",
            "A system is everything that was measured, its database and store too: systems share nothing.",
            "A stream of another pace costs in proportion to its chunks.",
            f"Streams of {made.shape.stream_s:g} s were measured: longer ones have fewer POSTs, and cost less.",
        ],
    )
