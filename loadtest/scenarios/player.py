"""Plays a plan's arrivals at their intended instants, whatever the server does: what `streamgauge bench` runs.

    python -m locust -f loadtest/scenarios/player.py --headless -u 1 --host URL --plan plan.json --results DIR

Locust's own pacing is closed (a slow server slows the users down, and the wait is lost from the figures), so a single
Locust user dispatches open arrivals as greenlets. Rows go to DIR/streams.jsonl and DIR/generator.jsonl. With
`--control-fd` the parent is told about the progress, and each block waits for its go-ahead.
"""

import csv
import socket
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.pool
import gevent.socket
import msgspec
from locust import FastHttpUser, events, task
from locust.exception import StopUser
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtest import plan as plans
from loadtest import recorder
from loadtest.scenarios import conversation, direct
from loadtest.scenarios.reader import WireError

# Often enough to see a pause of a few milliseconds, seldom enough to cost under 1 % of a core.
LAG_PROBE_S = 0.02
REPORT_S = 0.25
PREPARE_AT_ONCE = 20


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--plan", required=True, help="the plan to play (JSON)")
    parser.add_argument("--results", required=True, help="the folder the rows are written to")
    parser.add_argument("--control-fd", type=int, default=-1, help="an inherited socket to the parent")


class Control:
    """The line to the parent: `tell` reports, `ask` also waits for the answer; without a parent both are quiet."""

    def __init__(self, fd: int) -> None:
        self._socket = None
        if fd >= 0:
            self._socket = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)

    def tell(self, **fact: Any) -> None:
        """Send one fact. A parent that is gone raises OSError, which ends the run."""
        if self._socket is not None:
            self._socket.sendall(msgspec.json.encode(fact) + b"\n")

    def ask(self, **fact: Any) -> None:
        """Send one fact and wait until the parent has dealt with it."""
        self.tell(**fact)
        if self._socket is not None and not self._socket.recv(1):
            raise ConnectionError("the parent process is gone")


class Lag:
    """Measures how late this process's own event loop runs: what it adds to every instant it stamps."""

    def __init__(self) -> None:
        self.samples_ns: list[int] = []

    def run(self) -> None:
        """Probe until killed."""
        wanted = round(LAG_PROBE_S * 1e9)
        while True:
            before = time.monotonic_ns()
            gevent.sleep(LAG_PROBE_S)
            self.samples_ns.append(max(0, time.monotonic_ns() - before - wanted))


class BlockRun:
    """One block: conversations are made beforehand, then every arrival starts at its instant; rows are never lost."""

    def __init__(self, client: Any, plan: plans.Plan, block: plans.Block) -> None:
        self._client, self._plan, self._block = client, plan, block
        self._greenlets = gevent.pool.Group()
        self._live: dict[int, list[recorder.Recording]] = {}
        self._events_before = 0
        self.rows: list[recorder.StreamRow] = []
        self.done = 0

    @property
    def chunks(self) -> int:
        """Events seen so far."""
        return self._events_before + sum(one.events for viewers in self._live.values() for one in viewers)

    @property
    def open(self) -> int:
        """Messages in flight."""
        return len(self._greenlets)

    def prepare(self) -> list[str | None]:
        """Make the conversations, so that the measured POST is the first thing an arrival does."""
        if self._plan.protocol == "openai":
            return [None] * len(self._block.arrivals)
        pool = gevent.pool.Pool(PREPARE_AT_ONCE)
        makers = [pool.spawn(self._create) for _ in self._block.arrivals]
        gevent.joinall(makers)
        return [maker.value for maker in makers]

    def play(self, conversations: list[str | None]) -> None:
        """Start every arrival at its intended instant and wait until all are over."""
        began_ns = time.time_ns()
        for index, (arrival, name) in enumerate(zip(self._block.arrivals, conversations, strict=True)):
            intended_ns = began_ns + round(arrival.at_s * 1e9)
            gevent.sleep(max(0.0, (intended_ns - time.time_ns()) / 1e9))
            viewers = range(len(arrival.viewers))
            recordings = [recorder.Recording(self._block, index, intended_ns, viewer) for viewer in viewers]
            self._live[index] = recordings
            self._greenlets.spawn(self._converse, index, recordings, name)
        self._greenlets.join()

    def stop(self) -> None:
        """Cut off what is in flight; each such stream leaves a censored row."""
        self._greenlets.kill(block=True)

    def _create(self) -> str | None:
        try:
            return conversation.create(self._client)
        except WireError:
            return None  # told by the row: no message is sent

    def _converse(self, index: int, recordings: list[recorder.Recording], name: str | None) -> None:
        rows = self._rows(recordings, name)
        self.rows += rows  # not in one: `rows` may be another list after the wait
        # Their events are in the rows now: a long run holds no more than what is open.
        self._events_before += sum(one.events for one in self._live.pop(index))
        self.done += 1

    def _rows(self, recordings: list[recorder.Recording], name: str | None) -> list[recorder.StreamRow]:
        if self._plan.protocol == "openai":
            return direct.complete(self._client, recordings[0], self._plan.stream_timeout_s)
        if name is None:
            return [one.row("failed", "POST /conversations failed") for one in recordings]
        return conversation.converse(self._client, recordings, name, self._plan.stream_timeout_s)


class Player(FastHttpUser):  # type: ignore[misc]
    """Dispatches the whole plan, then ends the run."""

    concurrency = 100_000  # arrivals are open: the connection pool must never make one wait

    def on_start(self) -> None:
        """Read the plan and open what the run writes to."""
        options = self.environment.parsed_options
        self.plan = plans.load(Path(options.plan))
        self.control = Control(options.control_fd)
        self.results = Path(options.results)

    @task  # type: ignore[untyped-decorator]
    def play(self) -> None:
        """Play every block, then quit; a stop in the middle writes what was in flight as censored."""
        lag = Lag()
        probe = gevent.spawn(lag.run)
        try:
            for block in self.plan.blocks:
                self._block(block, lag)
            self.control.ask(event="end")
        finally:
            probe.kill()
            self._locust_tables()
            self.environment.runner.quit()
        raise StopUser

    def _locust_tables(self) -> None:
        # Locust's own --csv is written once a second and never at the end: the last streams would be missing.
        tables = StatsCSV(self.environment, PERCENTILES_TO_REPORT)
        with (self.results / "locust_stats.csv").open("w", newline="") as file:
            tables.requests_csv(csv.writer(file))
        with (self.results / "locust_failures.csv").open("w", newline="") as file:
            tables.failures_csv(csv.writer(file))

    def _block(self, block: plans.Block, lag: Lag) -> None:
        run = BlockRun(self.client, self.plan, block)
        conversations = run.prepare()
        self.control.ask(event="ready", block=block.index)
        reporter = gevent.spawn(self._report, block, run)
        lag.samples_ns.clear()
        began_ns, cpu_ns = time.time_ns(), time.process_time_ns()
        try:
            run.play(conversations)
        finally:
            # Cleaned up under a kill as well: nothing below may be left out, so nothing below yields but `stop`.
            reporter.kill(block=False)
            run.stop()
            account = recorder.GeneratorRow(
                block.index, began_ns, time.time_ns(), time.process_time_ns() - cpu_ns, tuple(lag.samples_ns)
            )
            self._write(run)
            with (self.results / "generator.jsonl").open("ab") as file:
                recorder.append(file, [account])
        self._tell(block, run)
        self.control.ask(event="over", block=block.index)

    def _report(self, block: plans.Block, run: BlockRun) -> None:
        while True:
            gevent.sleep(REPORT_S)
            self._tell(block, run)
            if self.plan.soak_s is not None:
                # It costs the measured time a little, but what a soak of hours saw can't wait for its end.
                self._write(run)

    def _write(self, run: BlockRun) -> None:
        rows, run.rows = run.rows, []
        with (self.results / "streams.jsonl").open("ab") as file:
            recorder.append(file, rows)

    def _tell(self, block: plans.Block, run: BlockRun) -> None:
        self.control.tell(event="progress", block=block.index, open=run.open, done=run.done, chunks=run.chunks)
