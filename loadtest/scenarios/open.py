"""Messages that come when they come, however many are open: `locust -f loadtest/scenarios/open.py --rate 2`."""

import random
import time
from typing import Any

import gevent
import gevent.pool
from locust import events, task
from locust.user.task import LOCUST_STATE_RUNNING

from loadtest.scenarios.users import Talker


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--rate", type=float, default=1.0, help="messages a second of one user")


class Open(Talker):
    """A user who stands for many: exponential gaps between absolute instants, so that no answer holds the next back."""

    concurrency = 100_000
    scenario = "open"

    @task  # type: ignore[untyped-decorator]
    def talk(self) -> None:
        """Start messages until the run is stopped; what `--stop-timeout` leaves in flight then counts as broken."""
        source, due_ns = random.Random(), time.time_ns()  # noqa: S311
        open_ones = gevent.pool.Group()
        try:
            while self._state == LOCUST_STATE_RUNNING:
                due_ns += round(source.expovariate(self.environment.parsed_options.rate) * 1e9)
                gevent.sleep(max(0.0, (due_ns - time.time_ns()) / 1e9))
                open_ones.spawn(self.have_one, due_ns)
            open_ones.join()
        finally:
            open_ones.kill()
