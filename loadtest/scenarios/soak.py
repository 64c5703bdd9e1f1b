"""The same load for as long as `--run-time` says: `locust -f loadtest/scenarios/soak.py --run-time 1h`."""

from locust import constant_pacing

from loadtest.scenarios.users import Talker

EVERY_S = 10.0


class Soak(Talker):
    """One message every ten seconds, however long the last one took (unless that was longer)."""

    scenario = "soak"
    wait_time = constant_pacing(EVERY_S)
