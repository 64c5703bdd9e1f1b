"""A rate that doubles at half time, every `--period`: `locust -f loadtest/scenarios/step.py --rate 2`."""

from loadtest.scenarios.arriving import Arriving


class Step(Arriving):
    """`streamgauge bench --scenario step` as a Locust user."""

    scenario = "step"
