"""Three viewers of every stream: `locust -f loadtest/scenarios/multi_viewer.py`."""

from loadtest.scenarios.users import Talker


class MultiViewer(Talker):
    """`streamgauge bench --scenario multi-viewer` as a Locust user."""

    scenario = "multi-viewer"
