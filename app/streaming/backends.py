"""The backends by their names, and which of them a new message can get: asking for these opens no driver."""

from typing import get_args

from app.settings import Backend, Settings

NAMES: tuple[str, ...] = get_args(Backend)
SAFE = "polling"
"""Where a stream goes whose own backend is away."""
ONE_SERVER = ("streams",)
"""The backends that can't be had on a cluster."""


def offered(settings: Settings) -> tuple[str, ...]:
    """Name the backends that a new message can get on this chunk store."""
    return tuple(name for name in NAMES if not (settings.store_cluster and name in ONE_SERVER))
