"""Viewers lose their connection three times a stream and resume: `locust -f loadtest/scenarios/reconnect.py`."""

from loadtest.scenarios.users import Talker


class Reconnect(Talker):
    """`streamgauge bench --scenario reconnect` as a Locust user."""

    scenario = "reconnect"
