"""Real arrivals and lengths, once: `locust -f loadtest/scenarios/trace.py --trace conv.csv -u 1`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import events

from loadtest import trace
from loadtest.scenarios.arriving import Arriving


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--trace", default="", help="CSV in the form of the Azure LLM inference trace")
    parser.add_argument("--time-scale", type=float, default=1.0, help="stretch its time by this factor")


class Trace(Arriving):
    """`streamgauge bench --scenario trace` as a Locust user, which plays the file once and whole."""

    scenario = "trace"

    def messages(self) -> Iterator[tuple[float, int | None]]:
        """As they were recorded."""
        requests = trace.read(Path(self._option("trace")), limit=sys.maxsize, time_scale=self._option("time_scale"))
        return ((one.at_s, one.output_tokens) for one in requests)
