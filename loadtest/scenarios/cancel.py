"""Viewers cancel midway: `locust -f loadtest/scenarios/cancel.py`."""

from loadtest.scenarios.users import Talker


class Cancel(Talker):
    """`streamgauge bench --scenario cancel` as a Locust user."""

    scenario = "cancel"
