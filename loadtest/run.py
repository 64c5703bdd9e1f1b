"""The main job: play a plan against a running system, and leave its figures in a folder of their own."""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
from rich.console import Console

from loadtest import again, bench_page, clock, flips_report, folders, host, merging, plan, recorder, report, result
from loadtest.bench.processes import rss_bytes
from loadtest.counters import Counters, Meter
from loadtest.drift import ProcessSample
from loadtest.flipper import Flipper
from loadtest.flips import Controls, Done
from loadtest.generator import ALONE, Generator, GeneratorError, Team, exposing
from loadtest.options import DIRECT, BenchOptions, make_plan
from loadtest.plan import Plan
from loadtest.progress import PLAINLY, Display, Showing, say
from loadtest.reach import Reach, UnreachableError
from loadtest.target import BenchError, check_target
from loadtest.usage import BlockCounters
from loadtest.verdict import Verdict
from loadtest.watched import System
from loadtest.wording import counted

SAMPLE_EVERY_S = 1.0
LOOPBACK = "127.0.0.1"


class BrokenRunError(RuntimeError):
    """The run is written, and streams of it broke, or nothing came of it; the message says what."""


class ContinuityError(RuntimeError):
    """The run is whole and written, and shows that a flip cost something; the message says what."""


def run_bench(
    options: BenchOptions,
    target: str,
    database_url: str | None,
    redis_url: str | None,
    console: Console,
    known: Mapping[str, Any] | None = None,
    system: System = System(),  # noqa: B008 - frozen
    controls: Controls | None = None,
) -> Path:
    """Measure and return the folder with result.json, report.md and the raw streams.

    Ctrl-C ends the load; what was in flight is counted as censored, the results are written all the same, and then
    KeyboardInterrupt goes on; so it is when the generator dies (GeneratorError), when a flip cost something
    (ContinuityError), when streams broke and when the target could not be reached any more (BrokenRunError).

    `known` are settings of the system (such as `polling_interval_s`) that cannot be seen over the wire, `system` is
    what can be seen of it from beside, `controls` what a plan with flips needs.
    """
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if options.protocol == "openai":
        options, database_url, redis_url = replace(options, backends=(DIRECT,)), None, None
        if options.model is None and not os.environ.get("OPENAI_MODEL"):
            raise BenchError("no model is named: set OPENAI_MODEL")
    played = make_plan(options, seed)
    if played.flips is not None:
        # Backends share the time, so nobody can say whose a query was; and a store that was lost counts from 0.
        database_url, redis_url, system = None, None, System()
    target = target.rstrip("/")
    check_target(target, options.protocol)
    offset = _offset(target, options.protocol)
    began_at = datetime.now(UTC)
    folder = folders.new(options.out, began_at)
    plan.save(played, folder / "plan.json")
    if options.team.expect_workers:
        joining = f"streamgauge load-worker --master THIS_HOST --master-port {options.team.port}"
        console.print(f"waiting for {counted(options.team.expect_workers, 'load worker')}: {joining}", soft_wrap=True)
    with Meter(database_url, redis_url, time.time_ns, system) as meter:
        showing = Showing(options.progress, offset if options.team == ALONE else Showing().offset)
        exposed = exposing(options.metrics_port, offset)
        load = play(played, target, folder, meter, console, options.team, showing, controls, exposed)
    load.save(folder)
    settings = {
        **again.settings(options, target, seed),
        # A quick replay has to end within the minute: it is no longer the trace as recorded, and says so.
        "trace_output_tokens_capped_at": plan.QUICK_TRACE_TOKENS if options.quick and options.trace else None,
        "trace_segment_span_s_at_most": plan.QUICK_TRACE_SPAN_S if options.quick and options.trace else None,
        "counted_database": database_url is not None,
        "counted_store": redis_url is not None,
        **(known or {}),
    }
    offset_after = offset if load.unreachable else offset_again(target, offset, options.protocol)
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
        flips=load.flips,
        unreachable=None if load.unreachable is None else str(load.unreachable),
    )
    made = result.make(raw, settings, host.machine(), began_at.isoformat(timespec="seconds"))
    report.show(made, console)  # first, so that no full disk hides it
    bench_page.write_all(made, folder)
    if not load.interrupted or not (options.out / "latest").exists():
        folders.point_latest(options.out, folder)
    else:
        console.print(f"{options.out / 'latest'} stays as it was.", soft_wrap=True)
    console.print(f"Report: {folder / bench_page.NAME}", soft_wrap=True, highlight=False)
    if options.progress == "json":
        say(event="result", verdict=made["verdict"], reasons=made["verdict_reasons"], folder=str(folder))
    if load.failure is not None:
        raise load.failure
    if load.interrupted:
        raise KeyboardInterrupt
    check_continuity(made, folder)
    check_whole(made, folder)
    return folder


def check_whole(made: Mapping[str, Any], folder: Path) -> None:
    """Raise BrokenRunError if a stream broke, or if none ended intact."""
    intact = sum(figures["integrity"]["intact"] for figures in made["backends"].values())
    if made["verdict"] == Verdict.BROKEN or not intact:
        whole = sum(figures["streams"] for figures in made["backends"].values())
        said = f"{intact} of {counted(whole, 'stream')} came whole, for the reasons above"
        raise BrokenRunError(f"{said}. All rows are in {folder}: mend the cause, and measure anew.")


def check_continuity(made: Mapping[str, Any], folder: Path) -> None:
    """Raise ContinuityError if a flip cost something."""
    if made["continuity"] and made["continuity"]["broken"]:
        raise ContinuityError(f"{flips_report.verdict(made)} What and where is in {folder / 'report.md'}.")


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
    folders.check(options.out)
    if options.metrics_port is not None:
        if options.team.size > 1:
            raise ValueError("several load generators can't serve one --metrics-port: leave that out, or take one")
        with socket.socket() as port:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                port.bind((LOOPBACK, options.metrics_port))
            except OSError as error:
                raise ValueError(f"port {options.metrics_port} is taken: choose another --metrics-port") from error


@dataclass
class Load:
    """What the parent saw while the generator worked."""

    counters: list[BlockCounters]
    host: list[host.HostSample]
    started: list[int]
    interrupted: bool = False
    failure: GeneratorError | None = None
    unreachable: UnreachableError | None = None
    processes: list[ProcessSample] = field(default_factory=list)
    flips: Done | None = None

    def save(self, folder: Path) -> None:
        """Write down what was seen beside the streams."""
        if self.flips is not None:
            (folder / "flips.json").write_bytes(msgspec.json.encode(self.flips))
        for name, rows in (("counters", self.counters), ("host", self.host), ("processes", self.processes)):
            with (folder / f"{name}.jsonl").open("wb") as file:
                recorder.append(file, rows)

    def look_around(self, tell: Callable[[str], object]) -> None:
        """Sample the machine, and say so if another load has begun on it since."""
        before = self.host[-1].other_loads if self.host else 0
        self.host.append(host.sample())
        if self.host[-1].other_loads > before:
            tell("another load of streamgauge runs on this machine: both runs are NOISY, so end one and measure anew")

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
    controls: Controls | None = None,
    exposed: Sequence[str] = (),
) -> Load:
    """Run the load over the whole plan, reading all counters around each block and the processes all along.

    It ends early where the target is gone. A plan with flips needs the controls for them; `exposed` are options of a
    generator that shows its own figures.
    """
    load = Load([], [], [])
    before: Counters = meter.read()
    with (
        Display(console, played, folder / "streams.jsonl", showing) as display,
        Generator(target, folder / "plan.json", folder, team, exposed) as generator,
    ):
        load.look_around(display.note)
        flipper, reach = Flipper(played, controls, display.note), Reach(target)
        try:
            flipper.prepare()
            for seen in generator.reports():
                reach.heard(seen)
                display.away(reach.away_s)
                if seen is None:
                    continue
                display.update(seen)
                if meter.system.processes:
                    load.sample(meter.system)
                flipper.heard(seen)
                if seen.event == "ready":
                    load.started.append(seen.block)
                    before = meter.read()
                elif seen.event == "over":
                    load.counters.append(BlockCounters(seen.block, before, meter.read()))
                    load.look_around(display.note)
                if seen.event != "progress":
                    generator.go_on()
        except KeyboardInterrupt:
            load.interrupted = True
            display.note("stopping: what is in flight is counted as censored")
            generator.stop()
        except UnreachableError as error:
            load.unreachable = error
            display.note(f"stopping: {error}")
            generator.stop()
        except GeneratorError as error:
            load.interrupted, load.failure = True, error
        load.flips = flipper.end()
        load.look_around(display.note)
    return load
