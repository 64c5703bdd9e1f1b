"""Play the levels of a capacity search against a running system, and leave its figures in a folder of their own."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest import capacity, capacity_page, capacity_report, clock, host, plan, recorder
from loadtest.capacity import Capacity, Document, Level, Played, Shape
from loadtest.counters import Meter
from loadtest.objective import Clause
from loadtest.run import offset_again, play
from loadtest.target import BenchError, check_target

QUICK_STREAM_S, STREAM_S = 1.5, 3.0
QUICK_WINDOW_S, WINDOW_S = 2.0, 5.0
QUICK_REPEATS, REPEATS = 1, 2


@dataclass(frozen=True)
class CapacityOptions:
    """What a person can choose. `start` is the first level tried and `limit` the highest, per backend.

    A stream lasts `stream_s` and those that count begin within `window_s`; null leaves both to the mode.
    """

    objective: tuple[Clause, ...]
    backends: tuple[str, ...]
    quick: bool = False
    chunk_rate: float = 20.0
    stream_s: float | None = None
    window_s: float | None = None
    start: int = 10
    limit: int = 1000
    out: Path = Path("results")
    seed: int = 1
    model: str | None = "scripted"


def find_capacity(
    options: CapacityOptions, target: str, console: Console, known: Mapping[str, Any] | None = None
) -> Path:
    """Search for every backend in turn; returns the folder with capacity.json, .md and .html and every level's rows.

    Ctrl-C, a generator that dies and a target that is gone end the search without a result. `known` are
    settings that can't be seen over the wire.
    """
    target = target.rstrip("/")
    check_target(target)
    began_at = datetime.now(UTC)
    folder = (options.out / f"capacity-{began_at:%Y-%m-%dT%H-%M-%SZ}").resolve()
    folder.mkdir(parents=True)
    shape = Shape(
        stream_s=options.stream_s or (QUICK_STREAM_S if options.quick else STREAM_S),
        window_s=options.window_s or (QUICK_WINDOW_S if options.quick else WINDOW_S),
        chunk_rate=options.chunk_rate,
        model=options.model,
        seed=options.seed,
    )
    made = Document(
        made_at=began_at.isoformat(timespec="seconds"),
        machine=host.machine(),
        settings={
            "target": target,
            "quick": options.quick,
            "start": options.start,
            "limit": options.limit,
            **(known or {}),
        },
        objective=list(options.objective),
        shape=shape,
        backends={name: _search(options, shape, name, target, folder, console) for name in options.backends},
    )
    capacity.save(made, folder / "capacity.json")
    capacity_report.write(made, folder)
    capacity_page.write(made, folder)
    capacity_report.show(made, console)
    console.print(f"Written to {folder}.", soft_wrap=True)
    return folder


def _search(
    options: CapacityOptions, shape: Shape, backend: str, target: str, folder: Path, console: Console
) -> Capacity:
    tries = 0

    def one(streams: int) -> Level:
        nonlocal tries
        tries += 1
        results = folder / "levels" / f"{backend}-{tries:02}-{streams}"
        level = capacity.level(
            shape, options.objective, backend, streams, _played(shape, backend, streams, target, results)
        )
        console.print(capacity_report.line(backend, level), highlight=False, markup=False, soft_wrap=True)
        return level

    return capacity.search(one, options.start, options.limit, QUICK_REPEATS if options.quick else REPEATS)


def _played(shape: Shape, backend: str, streams: int, target: str, results: Path) -> Played:
    """One level, by a load generator of its own."""
    results.mkdir(parents=True)
    made, offset = capacity.plan(shape, backend, streams), clock.offset(target)
    plan.save(made, results / "plan.json")
    with Meter(None, None, time.time_ns) as meter:
        load = play(made, target, results, meter, Console(quiet=True))
    if load.failure is not None:
        raise load.failure
    if load.unreachable is not None:
        raise BenchError(f"{load.unreachable}: see why it ended, and search anew") from load.unreachable
    if load.interrupted:
        raise KeyboardInterrupt
    return Played(
        plan=made,
        streams=recorder.read_streams(results / "streams.jsonl"),
        generator=recorder.read_generator(results / "generator.jsonl"),
        host=load.host,
        offset=offset,
        offset_after=offset_again(target, offset),
    )
