"""Every other stream has a viewer who can't keep up: `locust -f loadtest/scenarios/slow_client.py`."""

from loadtest.scenarios.users import Talker


class SlowClient(Talker):
    """`streamgauge bench --scenario slow-client` as a Locust user."""

    scenario = "slow-client"
