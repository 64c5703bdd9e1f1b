"""What `streamgauge claims` measures, on a stack of ours: operations of the store, a bench run, and streams at once."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import redis
from rich.console import Console

from loadtest import claims, claims_report, document, host
from loadtest.bench import figures
from loadtest.bench.load import Point
from loadtest.bench.session import Plan, measure
from loadtest.claims import PUBSUB, Level, Observed
from loadtest.options import BenchOptions
from loadtest.run import run_bench
from loadtest.verdict import Verdict
from loadtest.wording import seconds
from ops.measure import crash_interrupts, errors_say_what_to_do, seen_of
from ops.perf import MOST_STREAMS, THEIRS, allow_many_files, backend_of
from ops.stack import Part, Stack, StackOptions, running_stack

POLLING_S = 0.1
"""What the guide's own loop slept between two looks."""
STREAM_S = 20.0
"""Of the lean load's streams."""
START = {claims.POLLING: 50, PUBSUB: 125}
UNTRUSTED = (Verdict.GENERATOR_LIMITED.value, Verdict.CENSORED.value)
BATCHES, OPERATIONS = 10, 500
RECORD = (
    b'{"chunk_index":100,"chunk_type":"content","content":"tides ","attempt":1,"deltas":1,"ts_ns":1763937000123456789}'
)


@dataclass(frozen=True)
class ClaimsOptions:
    """How thoroughly. The search for the most streams ends at `limit`, or when it is known to within `close_enough`."""

    quick: bool = False
    out: Path = Path("results")
    num_conversations: int | None = None
    chunk_rate: float = 20.0
    seconds: float = 5.0
    limit: int = 2000
    close_enough: float = 1.1

    @property
    def command(self) -> str:
        """What a person types to have the same again."""
        given = f" --num-conversations {self.num_conversations}" if self.num_conversations else ""
        return f"streamgauge claims{' --quick' if self.quick else ''}{given} --limit {self.limit}"


def measure_claims(options: ClaimsOptions, folder: Path, console: Console, announce: Callable[[Part], None]) -> Path:
    """Measure everything and return the folder with claims.json and claims.md. Only servers of ours are used."""
    allow_many_files()
    began = datetime.now(UTC)
    results = (options.out / f"claims-{began:%Y-%m-%dT%H-%M-%SZ}").resolve()
    results.mkdir(parents=True)
    with running_stack(_stack(folder), announce) as stack, errors_say_what_to_do(), crash_interrupts(stack):
        operations = store_operations(stack.redis_url)
        bench = BenchOptions(
            quick=options.quick,
            num_conversations=options.num_conversations,
            chunk_rate=options.chunk_rate,
            out=results,
        )
        known = {"polling_interval_s": POLLING_S}
        run = run_bench(bench, stack.api_url, stack.database_url, stack.redis_url, console, known, seen_of(stack))
        levels = {name: search(name, stack, options, console) for name in START}
    made = document.read(run)
    seen = Observed(
        chunk_rate=options.chunk_rate,
        chunks_a_stream=options.chunk_rate * STREAM_S,
        polling=levels[claims.POLLING],
        pubsub=levels[PUBSUB],
        operations_s=operations,
        polling_interval_s=POLLING_S,
    )
    told = claims_report.Document(
        made_at=began.isoformat(timespec="seconds"),
        machine=host.machine(),
        settings=_settings(options, made),
        verdict=made.verdict.value,
        verdict_reasons=made.verdict_reasons,
        findings=claims.findings(made, seen),
        levels=levels,
    )
    claims_report.write(told, results)
    claims_report.show(told, console)
    return results


def store_operations(url: str) -> list[float]:
    """The median round trip of one RPUSH or PUBLISH in each batch, from a plain client, with nothing else going on."""
    key = "claims:operations"
    with redis.Redis.from_url(url) as client:
        actions = (lambda: client.rpush(key, RECORD), lambda: client.publish(key, RECORD))
        _timed(actions[0])  # connects
        medians = [
            median(_timed(actions[number % 2]) for number in range(OPERATIONS)) for _ in range(BATCHES)
        ]  # fmt: skip
        client.delete(key)
    return medians


def search(backend: str, stack: Stack, options: ClaimsOptions, console: Console) -> list[Level]:
    """Look for the most streams that hold, each level once, by the lean load."""
    levels: list[Level] = []
    while (streams := claims.next_level(levels, START[backend], options.limit, options.close_enough)) is not None:
        levels.append(_level(backend, stack, streams, options))
        said = "held" if levels[-1].held else "did not hold"
        console.print(f"{backend} × {streams:,}: {said}: {levels[-1].why}", highlight=False, soft_wrap=True)
    return levels


def judged(point: Point) -> tuple[bool, str]:
    """Whether the streams held, and the figure that says so."""
    p99 = point.found.delivery_latency_s.p99
    if point.verdict in UNTRUSTED:
        return False, f"the load can't be trusted: {'; '.join(point.reasons)}"
    if not point.is_whole:
        return False, f"{point.found.broken} broken and {point.found.unfinished} unfinished streams"
    if figures.is_saturated(point):
        return False, f"{point.found.deltas_per_s / point.load.offered:.1%} of the chunks arrived in time"
    kept = p99 is not None and p99 < claims.OBJECTIVE_S
    return kept, "no chunk came" if p99 is None else f"p99 of delivery {seconds(p99)}"


def _level(backend: str, stack: Stack, streams: int, options: ClaimsOptions) -> Level:
    plan = Plan(streams=(streams,), rate=options.chunk_rate, seconds=options.seconds, idle=0, search=0)
    with _store(stack.redis_url) as before:
        results = measure([backend_of(backend, stack)], plan, lambda _said: None, stack.check)
    with _store(stack.redis_url) as after:
        held, why = judged(results.levels[0][0])
    return Level(streams, held, why, after["records"] - before["records"], after["bytes"] - before["bytes"])


@contextlib.contextmanager
def _store(url: str) -> Iterator[Mapping[str, int]]:
    with redis.Redis.from_url(url) as client:
        pushed: Mapping[str, Any] = client.info("commandstats").get("cmdstat_rpush", {"calls": 0})
        yield {"records": int(pushed["calls"]), "bytes": int(client.info("memory")["used_memory"])}


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _stack(folder: Path) -> StackOptions:
    own = {name: value for name, value in os.environ.items() if name not in THEIRS}
    settings = {
        "STREAMGAUGE_POLLING_INTERVAL_S": f"{POLLING_S:g}",
        "STREAMGAUGE_WORKER_CONCURRENCY": str(MOST_STREAMS),
    }
    return StackOptions(folder, port=0, keep_data=False, environment={**own, **settings})


def _settings(options: ClaimsOptions, made: document.Result) -> dict[str, Any]:
    return {
        "command": options.command,
        "STREAMGAUGE_POLLING_INTERVAL_S": POLLING_S,
        "chunks a second of a stream": options.chunk_rate,
        "quartets": made.settings["quartets"],
        "seconds measured at each number of streams": options.seconds,
    }
