"""Plays a plan's arrivals at their intended instants, whatever the server does: what `streamgauge bench` runs.

    python -m locust -f loadtest/scenarios/player.py --headless -u 1 --host URL --plan plan.json --results DIR

Locust's own pacing is closed (a slow server slows the users down, and the wait is lost from the figures), so a single
Locust user dispatches open arrivals as greenlets. Rows go to DIR/streams.jsonl and DIR/generator.jsonl. With
`--control-fd` the parent is told about the progress, and each block waits for its go-ahead. Under Locust's `--master`
(or `--processes`) each worker has one such user, which plays its share: see `team`.
"""

import time
from typing import Any

import gevent
from locust import FastHttpUser, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from loadtest import plan as plans
from loadtest import recorder
from loadtest.scenarios.blocks import BlockRun, Lag
from loadtest.scenarios.lines import Alone, Line
from loadtest.scenarios.team import Conductor, Member

REPORT_S = 0.25


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--plan", default="", help="the plan to play (JSON)")
    parser.add_argument("--results", default="", help="the folder the rows are written to")
    parser.add_argument("--control-fd", type=int, default=-1, help="an inherited socket to the parent")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _take_part(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, MasterRunner):
        Conductor(environment)
    elif isinstance(environment.runner, WorkerRunner):
        environment.member = Member(environment)


class Player(FastHttpUser):  # type: ignore[misc]
    """Dispatches the whole plan, or its share, then ends the run."""

    concurrency = 100_000  # arrivals are open: the connection pool must never make one wait

    @task  # type: ignore[untyped-decorator]
    def play(self) -> None:
        """Play every block, then quit; a stop in the middle hands in what was in flight as censored."""
        self.line: Line = getattr(self.environment, "member", None) or Alone(self.environment)
        lag = Lag()
        probe = gevent.spawn(lag.run)
        try:
            self.plan = self.line.plan()
            for block in self.plan.blocks:
                self._block(block, lag)
            self.line.end()
        finally:
            probe.kill(block=False)  # a stop that is on its way would meet us waiting here, and not get further
            self.line.close()
        raise StopUser

    def _block(self, block: plans.Block, lag: Lag) -> None:
        run = BlockRun(self.client, self.plan, block, self.line.share(len(block.arrivals)))
        conversations = run.prepare()
        starts_ns = self.line.ready(block.index)
        reporter = gevent.spawn(self._report, block, run)
        lag.samples_ns.clear()
        began_ns, cpu_ns = time.time_ns(), time.process_time_ns()
        try:
            run.play(conversations, starts_ns)
            self._tell(block, run)
        finally:
            # Cleaned up under a kill as well: nothing may be left out, so nothing yields but `stop`, where a late kill
            # finds nothing in flight any more.
            reporter.kill(block=False)
            try:
                run.stop()
            finally:
                account = recorder.GeneratorRow(
                    block.index, began_ns, time.time_ns(), time.process_time_ns() - cpu_ns, tuple(lag.samples_ns)
                )
                self.line.hand_in(run.take_rows(), account)
        self.line.over(block.index)

    def _report(self, block: plans.Block, run: BlockRun) -> None:
        while True:
            gevent.sleep(REPORT_S)
            self._tell(block, run)
            if self.plan.soak_s is not None:
                # It costs the measured time a little, but what a soak of hours saw can't wait for its end.
                self.line.hand_in(run.take_rows())

    def _tell(self, block: plans.Block, run: BlockRun) -> None:
        self.line.tell(block.index, run.open, run.done, run.chunks)
