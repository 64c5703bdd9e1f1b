"""The main job: play a plan against a running system, and leave its figures in a folder of their own."""

import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec
import psutil
from rich.console import Console

from loadtest import (
    bench_page,
    catalogue,
    clock,
    folders,
    host,
    merging,
    plan,
    recorder,
    report,
    result,
    schedules,
    trace,
    viewers,
)
from loadtest.bench.processes import rss_bytes
from loadtest.counters import Counters, Meter
from loadtest.drift import ProcessSample
from loadtest.generator import ALONE, Generator, GeneratorError, Team
from loadtest.plan import Plan
from loadtest.progress import PLAINLY, Display, Mode, Showing, say
from loadtest.usage import BlockCounters
from loadtest.watched import System

BACKENDS = ("polling", "pubsub")
DIRECT = "openai"
"""Stands where a backend's name does when a model is asked without any."""
SAMPLE_EVERY_S = 1.0
NOT_OF_THE_LOAD = ("team", "progress")


class BenchError(RuntimeError):
    """The run cannot begin; the message says what to change. A GeneratorError or CountersError can end it later."""


@dataclass(frozen=True)
class BenchOptions:
    """What a person can choose. `num_conversations` is per backend; null leaves it to the mode."""

    quick: bool = False
    num_conversations: int | None = None
    backends: tuple[str, ...] = BACKENDS
    chunk_rate: float = 20.0
    out: Path = Path("results")
    scenario: str = "steady"
    duration: str | None = None
    protocol: plan.Protocol = "streamgauge"
    trace: Path | None = None
    time_scale: float = 1.0
    seed: int | None = None
    model: str | None = "scripted"
    team: Team = ALONE
    progress: Mode = "auto"


def run_bench(
    options: BenchOptions,
    target: str,
    database_url: str | None,
    redis_url: str | None,
    console: Console,
    known: Mapping[str, Any] | None = None,
    system: System = System(),  # noqa: B008 - frozen
) -> Path:
    """Measure and return the folder with result.json, report.md and the raw streams.

    Ctrl-C ends the load; what was in flight is counted as censored, the results are written all the same, and then
    KeyboardInterrupt goes on; so it is when the generator dies, with GeneratorError. `known`
    are settings of the system (such as `polling_interval_s`) that cannot be seen over the wire, `system` is what can be
    seen of it from beside: its metrics and its processes.
    """
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if options.protocol == "openai":
        options, database_url, redis_url = replace(options, backends=(DIRECT,)), None, None
        if options.model is None and not os.environ.get("OPENAI_MODEL"):
            raise BenchError("no model is named: set OPENAI_MODEL")
    played = make_plan(options, seed)
    target = target.rstrip("/")
    check_target(target, options.protocol)
    offset = _offset(target, options.protocol)
    began_at = datetime.now(UTC)
    folder = folders.new(options.out, began_at)
    plan.save(played, folder / "plan.json")
    with Meter(database_url, redis_url, time.time_ns, system) as meter:
        showing = Showing(options.progress, offset if options.team == ALONE else Showing().offset)
        load = play(played, target, folder, meter, console, options.team, showing)
    for name, rows in (("counters", load.counters), ("host", load.host), ("processes", load.processes)):
        with (folder / f"{name}.jsonl").open("wb") as file:
            recorder.append(file, rows)
    settings = {
        **{name: value for name, value in asdict(options).items() if name not in NOT_OF_THE_LOAD},
        "out": str(options.out),
        "trace": options.trace and str(options.trace),
        "seed": seed,
        "target": target,
        # A quick replay has to end within the minute: it is no longer the trace as recorded, and says so.
        "trace_output_tokens_capped_at": plan.QUICK_TRACE_TOKENS if options.quick and options.trace else None,
        "trace_segment_span_s_at_most": plan.QUICK_TRACE_SPAN_S if options.quick and options.trace else None,
        "counted_database": database_url is not None,
        "counted_store": redis_url is not None,
        **(known or {}),
    }
    offset_after = offset_again(target, offset, options.protocol)
    if clocks := list(recorder.read(folder / "clocks.jsonl", merging.Clocks)):
        offset, offset_after = merging.combined(clocks)
    raw = result.Raw(
        plan=played,
        backends=options.backends,
        streams=recorder.read_streams(folder / "streams.jsonl"),
        generator=recorder.read_generator(folder / "generator.jsonl"),
        host=load.host,
        counters=load.counters,
        offset=offset,
        offset_after=offset_after,
        started=load.started,
        interrupted=load.interrupted,
        processes=load.processes,
        generators=options.team.size,
    )
    made = result.make(raw, settings, host.machine(), began_at.isoformat(timespec="seconds"))
    report.write(made, folder)
    bench_page.write_report(made, folder)
    if not load.interrupted or not (options.out / "latest").exists():
        folders.point_latest(options.out, folder)
    else:
        console.print(f"{options.out / 'latest'} stays as it was; what there is of this run is in {folder}.")
    report.show(made, console)
    if options.progress == "json":
        say(event="result", verdict=made["verdict"], reasons=made["verdict_reasons"], folder=str(folder))
    if load.failure is not None:
        raise load.failure
    if load.interrupted:
        raise KeyboardInterrupt
    return folder


def _offset(target: str, protocol: plan.Protocol) -> clock.Offset:
    if protocol == "openai":
        return clock.Offset(same_host=True, offset_ns=0, bound_ns=0)  # a model tells no instants to be corrected
    return clock.offset(target)


def offset_again(target: str, before: clock.Offset, protocol: plan.Protocol = "streamgauge") -> clock.Offset:
    """The offset at the end of the run; a server that is gone by then leaves the first one."""
    try:
        return _offset(target, protocol)
    except OSError:
        return before


def check(options: BenchOptions) -> None:
    """Raise ValueError, with the fix, for what can't be planned or its results not written; nothing is begun."""
    make_plan(options, options.seed or 0)
    nearest = next(path for path in (options.out.absolute(), *options.out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"{options.out} can't be a folder, as {nearest} is none to write in: name another with --out")


def make_plan(options: BenchOptions, seed: int) -> Plan:
    """The plan these options ask for; what cannot be planned raises ValueError with the fix."""
    return msgspec.structs.replace(_plan(options, seed), protocol=options.protocol)


def _plan(options: BenchOptions, seed: int) -> Plan:
    size = plan.shape(
        quick=options.quick,
        conversations=options.num_conversations,
        chunk_rate=options.chunk_rate,
        model=options.model,
        seed=seed,
    )
    schedule, watch = catalogue.named(options.scenario)
    if options.protocol == "openai" and watch is not viewers.once:
        raise ValueError(f"a model has no streams to come back to: leave out --scenario {options.scenario}")
    if options.scenario == catalogue.SOAK:
        return _soak(options, size, schedule)
    if options.duration is not None:
        raise ValueError(f"only a soak has a --duration: add --scenario {catalogue.SOAK}, or leave it out")
    if options.trace is None:
        return plan.scheduled(size, options.backends, schedule, watch)
    if schedule is not schedules.steady:
        raise ValueError(f"a trace sets the arrivals itself: leave out --scenario {options.scenario} or --trace")
    limit = options.num_conversations or (plan.QUICK_TRACE_REQUESTS if options.quick else plan.CONVERSATIONS)
    requests = trace.read(options.trace, limit=limit, time_scale=options.time_scale)
    return plan.replay(size, options.backends, requests, quick=options.quick, watch=watch)


def _soak(options: BenchOptions, size: plan.Shape, schedule: schedules.Schedule) -> Plan:
    if options.trace is not None:
        raise ValueError("a trace sets the arrivals itself: leave out --scenario soak or --trace")
    usual_s = plan.QUICK_SOAK_S if options.quick else plan.SOAK_S
    duration_s = catalogue.duration_s(options.duration) if options.duration else usual_s
    conversations = options.num_conversations or max(1, round(plan.SOAK_PER_S * duration_s))
    return plan.soak(size, options.backends, schedule, duration_s, conversations)


@dataclass
class Load:
    """What the parent saw while the generator worked."""

    counters: list[BlockCounters]
    host: list[host.HostSample]
    started: list[int]
    interrupted: bool = False
    failure: GeneratorError | None = None
    processes: list[ProcessSample] = field(default_factory=list)

    def sample(self, system: System) -> None:
        """Note what its processes use, seldom enough to cost nothing."""
        now_ns = time.time_ns()
        if self.processes and now_ns - self.processes[-1].at_ns < SAMPLE_EVERY_S * 1e9:
            return
        with contextlib.suppress(psutil.Error):  # one has ended: whoever owns it says so
            rss, used = rss_bytes(list(system.processes.items())), system.cpu_s()
            self.processes.append(ProcessSample(now_ns, rss, used or {}))


def play(
    played: Plan,
    target: str,
    folder: Path,
    meter: Meter,
    console: Console,
    team: Team = ALONE,
    showing: Showing = PLAINLY,
) -> Load:
    """Run the load over the whole plan, reading all counters around each block and the processes all along."""
    load = Load([], [host.sample()], [])
    before: Counters = meter.read()
    with (
        Display(console, played, folder / "streams.jsonl", showing) as display,
        Generator(target, folder / "plan.json", folder, team) as generator,
    ):
        try:
            for seen in generator.reports():
                display.update(seen)
                if meter.system.processes:
                    load.sample(meter.system)
                if seen.event == "ready":
                    load.started.append(seen.block)
                    before = meter.read()
                elif seen.event == "over":
                    load.counters.append(BlockCounters(seen.block, before, meter.read()))
                    load.host.append(host.sample())
                if seen.event != "progress":
                    generator.go_on()
        except KeyboardInterrupt:
            load.interrupted = True
            display.note("stopping: what is in flight is counted as censored")
            generator.stop()
        except GeneratorError as error:
            load.interrupted, load.failure = True, error
    load.host.append(host.sample())
    return load


def check_target(target: str, protocol: plan.Protocol = "streamgauge") -> None:
    """Raise BenchError with the fix when nothing that is ready answers there."""
    if urlsplit(target).scheme not in {"http", "https"}:
        raise BenchError(f"{target!r} is no target: give a URL such as http://127.0.0.1:8000")
    path, fix = "/ready", "wait until the system is ready, or mend it"
    asked = Request(f"{target}{path}")  # noqa: S310
    if protocol == "openai":
        path, fix = "/models", "give the URL that ends before /chat/completions, and OPENAI_API_KEY if it wants one"
        asked = Request(f"{target}{path}", headers={"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"})  # noqa: S310
    try:
        with urlopen(asked, timeout=10) as answer:  # noqa: S310
            answer.read()
    except HTTPError as error:
        raise BenchError(f"{target}{path} answered {error.code}: {fix}") from error
    except (URLError, OSError) as error:
        raise BenchError(f"{target} does not answer ({error}): start it with 'streamgauge up', or check it") from error
