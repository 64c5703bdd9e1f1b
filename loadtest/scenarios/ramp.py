"""A rate that grows from nothing, every `--period`: `locust -f loadtest/scenarios/ramp.py --rate 2`."""

from loadtest.scenarios.arriving import Arriving


class Ramp(Arriving):
    """`streamgauge bench --scenario ramp` as a Locust user."""

    scenario = "ramp"
