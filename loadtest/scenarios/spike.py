"""Half of the messages at almost the same time, every `--period`: `locust -f loadtest/scenarios/spike.py --rate 2`."""

from loadtest.scenarios.arriving import Arriving


class Spike(Arriving):
    """`streamgauge bench --scenario spike` as a Locust user."""

    scenario = "spike"
