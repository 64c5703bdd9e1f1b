"""The backends by their names, and which of them a new message can get: asking for these opens no driver."""

from typing import get_args

from app.settings import Backend, Settings

NAMES: tuple[str, ...] = get_args(Backend)
SAFE = "polling"
"""Where a stream goes whose own backend is away."""


def withheld(settings: Settings) -> dict[str, str]:
    """Say of each backend that a new message can't get here why that is."""
    reasons = {}
    if settings.store_cluster:
        reasons["streams"] = "needs a single server, and STREAMGAUGE_STORE_CLUSTER is set"
    if settings.database_pooler:
        reasons["notify"] = "needs a session of its own, and STREAMGAUGE_DATABASE_POOLER is set"
    return reasons


def offered(settings: Settings) -> tuple[str, ...]:
    """Name the backends that a new message can get on these servers."""
    return tuple(name for name in NAMES if name not in withheld(settings))
