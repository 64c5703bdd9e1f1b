"""Messages that come when they come, however many are open: what the scenarios have in common that set arrivals."""

import random
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import gevent
import gevent.pool
from locust import events
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING

from loadtest import catalogue
from loadtest.scenarios.users import Talker


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--rate", type=float, default=1.0, help="messages a second of one user")
    parser.add_argument("--period", type=float, default=60.0, help="seconds of one ramp, step or spike; then another")


class Arriving(Talker):
    """A user who stands for many: messages at absolute instants, so that no answer holds the next back."""

    abstract = True
    concurrency = 100_000

    def messages(self) -> Iterator[tuple[float, int | None]]:
        """Seconds from the start and how long the answer is to be, in order: the scenario's schedule, over and over."""
        source, schedule = random.Random(), catalogue.SCENARIOS[self.scenario].schedule  # noqa: S311
        rate, period_s = self._option("rate"), self._option("period")
        for number in count():
            for at_s in schedule(source, max(1, round(rate * period_s)), period_s):
                yield number * period_s + at_s, None

    def turn(self) -> None:
        """Start messages until the run is stopped; what `--stop-timeout` leaves in flight then counts as cut off."""
        began_ns = time.time_ns()
        open_ones = gevent.pool.Group()
        try:
            for at_s, chunks in self.messages():
                due_ns = began_ns + round(at_s * 1e9)
                gevent.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
                if self._state != LOCUST_STATE_RUNNING:
                    break
                open_ones.spawn(self.have_one, due_ns, chunks)
            open_ones.join()
        finally:
            open_ones.kill()
        raise StopUser
