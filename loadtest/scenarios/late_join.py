"""A second viewer comes late and begins at the beginning: `locust -f loadtest/scenarios/late_join.py`."""

from loadtest.scenarios.users import Talker


class LateJoin(Talker):
    """`streamgauge bench --scenario late-join` as a Locust user."""

    scenario = "late-join"
