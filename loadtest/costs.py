"""What a backend cost the system's processes, and where a chunk's time went, by what was read around its blocks: pure.

The hops are means, since only means add up: publish (the producer holds a chunk → the store acknowledged it), transit
(→ the API has it), write (→ the socket write returned), client (→ the load generator parsed the event). Transit is what
publish and write leave of the whole, and is negative where a chunk overtakes its own acknowledgement.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadtest import usage
from loadtest.clock import Offset
from loadtest.counters import Counters
from loadtest.summary import Measured, delivery_latency
from loadtest.usage import BlockCounters
from loadtest.watched import kind_of

if TYPE_CHECKING:
    from loadtest.result import Raw

HOPS = ("publish", "transit", "write", "client")
GENERATOR = "load"


def of_backend(name: str, streams: Sequence[Measured], raw: "Raw") -> dict[str, Any]:
    """CPU per chunk and peak memory by kind of process, and the hops; whatever nobody counted is left out."""
    blocks = [one for one in raw.counters if _measured(one, name, raw)]
    played = {one.block for one in blocks}
    inside = [one for one in streams if one.row.block in played]
    deltas = sum(_deltas(one) for one in inside)
    used = _cpu_s(blocks)
    if used:
        accounts = [one for one in raw.generator if one.block in played]
        used[GENERATOR] = sum(one.cpu_ns for one in accounts) / 1e9
    return {
        "cpu_us_per_chunk": {kind: 1e6 * spent / deltas if deltas else None for kind, spent in used.items()},
        "peak_rss_bytes": _peak(blocks, raw),
        "hops_s": hops(name, blocks, inside, raw.offset),
    }


def units(name: str, raw: "Raw") -> dict[str, list[float | None]]:
    """What is known per quartet of the counters: the units of their intervals."""
    quartets = sorted({block.quartet for block in raw.plan.blocks if block.quartet is not None})
    blocks = [one for one in raw.counters if _measured(one, name, raw)]
    by_quartet = [[one for one in blocks if raw.plan.blocks[one.block].quartet == quartet] for quartet in quartets]
    return {
        "db_queries_per_stream": usage.queries_by_quartet(name, raw.counters, raw.plan),
        "publish.mean": [_mean("publish", name, some) for some in by_quartet],
    }


def hops(
    name: str, blocks: Sequence[BlockCounters], streams: Sequence[Measured], offset: Offset
) -> dict[str, float | None]:
    """Mean seconds of each hop; empty where the system's metrics were not in sight."""
    publish, written, write = (_mean(metric, name, blocks) for metric in ("publish", "delivery", "write"))
    if written is None:
        return {}
    seen = delivery_latency((one for one in streams if one.good), offset).mean_s
    known = {"publish": publish, "write": write, "client": None if seen is None else seen - written}
    parts = None if publish is None or write is None else written - publish - write
    return {hop: parts if hop == "transit" else known[hop] for hop in HOPS}


def _measured(one: BlockCounters, name: str, raw: "Raw") -> bool:
    block = raw.plan.blocks[one.block]
    return block.backend == name and block.quartet is not None and not block.twin


def _deltas(one: Measured) -> int:
    return sum(count for kind, count in zip(one.row.kinds, one.row.deltas, strict=True) if kind == "content")


def _cpu_s(blocks: Sequence[BlockCounters]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for one in blocks:
        for process, after in (one.after.cpu_s or {}).items():
            kind = kind_of(process)
            spent[kind] = spent.get(kind, 0.0) + after - (one.before.cpu_s or {}).get(process, after)
    return spent


def _peak(blocks: Sequence[BlockCounters], raw: "Raw") -> dict[str, int]:
    """The most resident memory while its blocks were played, by kind; every kind serves all backends in turn."""
    most: dict[str, int] = {}
    spans = [(one.before.at_ns, one.after.at_ns) for one in blocks]
    for sample in raw.processes:
        if any(low <= sample.at_ns <= high for low, high in spans):
            for kind, size in by_kind(sample.rss_bytes).items():
                most[kind] = max(most.get(kind, 0), size)
    return most


def by_kind(by_process: Mapping[str, Any]) -> dict[str, Any]:
    """Added up over the processes of a kind."""
    found: dict[str, Any] = {}
    for process, value in by_process.items():
        found[kind_of(process)] = found.get(kind_of(process), 0) + value
    return found


def _mean(metric: str, backend: str, blocks: Sequence[BlockCounters]) -> float | None:
    def grown(part: str) -> float | None:
        sample = f'streamgauge_{metric}_seconds_{part}{{backend="{backend}"}}'
        return _sum(blocks, lambda one: None if one.metrics is None else one.metrics.get(sample, 0.0))

    total, count = grown("sum"), grown("count")
    return total / count if total is not None and count else None


def _sum(blocks: Sequence[BlockCounters], value: Callable[[Counters], float | None]) -> float | None:
    ends = [(value(one.before), value(one.after)) for one in blocks]
    grown = [after - before for before, after in ends if before is not None and after is not None]
    return sum(grown) if len(grown) == len(blocks) and grown else None
