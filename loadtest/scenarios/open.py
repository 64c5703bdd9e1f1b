"""Readers who know nothing of each other: `locust -f loadtest/scenarios/open.py --rate 2`."""

import random
from collections.abc import Iterator

from loadtest.scenarios.arriving import Arriving


class Open(Arriving):
    """`streamgauge bench --scenario open` as a Locust user: exponential gaps, without an end."""

    scenario = "open"

    def messages(self) -> Iterator[tuple[float, int | None]]:
        """Each an exponential gap after the one before."""
        source, at_s = random.Random(), 0.0  # noqa: S311
        while True:
            at_s += source.expovariate(self._option("rate"))
            yield at_s, None
