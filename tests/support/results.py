"""Hand-made runs: whole results from rows whose latencies are chosen."""

import math
import random
from collections.abc import Mapping
from typing import Any

import msgspec

from loadtest import plan, result, schedules
from loadtest.clock import Offset
from loadtest.document import Result
from loadtest.host import sample
from tests.support.stream_rows import intact

LATENCIES = {"polling": 50.0, "pubsub": 0.8}


def run_of(
    latencies_ms: Mapping[str, float] = LATENCIES,
    *,
    quartets: int = 4,
    spread: float = 0.0,
    seed: int = 1,
    interrupted: bool = False,
    failed: int = 0,
    offset: Offset = Offset(True, 0, 0),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """The document of a run with these delivery latencies; each block's is off by up to `spread` (a log).

    The first `failed` streams broke.
    """
    rng = random.Random(seed)
    names = list(latencies_ms)
    order = [*names, *reversed(names)] if len(names) > 1 else names * 4
    size = plan.shape(quick=True, conversations=4 * quartets, chunk_rate=20, model="scripted", seed=1)
    rows = [
        intact(
            block=index,
            backend=name,
            quartet=index // len(order),
            latency_ms=latencies_ms[name] * math.exp(rng.uniform(-spread, spread)),
        )
        for index, name in enumerate(order * quartets)
    ]
    cut = [msgspec.structs.replace(row, outcome="failed", error="Connection refused") for row in rows[:failed]]
    rows = cut + rows[failed:]
    rows += [msgspec.structs.replace(row, twin=True, block=row.block + 1000) for row in rows if row.backend == names[0]]
    raw = result.Raw(
        plan=plan.scheduled(size, names, schedules.steady),
        backends=names,
        streams=rows,
        generator=[],
        # Of a real machine, but for the other tests that measure on it.
        host=[msgspec.structs.replace(sample(), other_loads=0)],
        counters=[],
        offset=offset,
        offset_after=offset,
        started=[],
        interrupted=interrupted,
    )
    settings = {"target": "http://127.0.0.1:8000", "chunk_rate": 20.0, "seed": 1}
    return result.make(raw, settings, {"cores": 2, "cpu": "of the test"}, "2026-01-01T00:00:00+00:00")


def typed(made: Mapping[str, Any], **changes: Any) -> Result:
    """The same as a program reads it, with fields replaced."""
    return msgspec.convert({**made, **changes}, Result)
