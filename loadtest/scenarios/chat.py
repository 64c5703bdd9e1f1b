"""One message after the other, each watched to its end: `locust -f loadtest/scenarios/chat.py`."""

from loadtest.scenarios.users import Talker


class Chat(Talker):
    """The plainest user."""
