"""What the rollback scenario needs of a system: its flag, and of a stack of ours also the loss of the chunk store."""

import contextlib
import json
import re
from collections.abc import Iterator
from urllib.request import urlopen

from app.settings import IN_ROWS, Settings
from app.streaming.backends import NAMES, SAFE
from app.streaming.flag import NO_GENERATION
from app.streaming.flag_document import document_for
from app.streaming.health import LOOK_EVERY_S
from app.streaming.valkey import BACKOFF_S, PATIENCE_S
from loadtest.flips import Controls, Flipping
from ops.flag_access import recorded
from ops.stack import Stack

OUTAGE_S = 2.0
"""Long enough for every process to miss the store, short enough to leave time for the flips."""
SLACK_S = BACKOFF_S[1] + PATIENCE_S + 4 * LOOK_EVERY_S
"""How much later than the setting says an API may send new messages to the store again: its connection comes back by
then, one look at it may go wrong, and a busy one is late.
"""
HANDOVERS = re.compile(r"^streamgauge_handovers_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
CHUNK_STORE = "valkey"
WHO = "streamgauge bench --scenario rollback"


def flipping(settings: Settings, every_s: float | None, *, loses_store: bool) -> Flipping:
    """Say what a system with these settings does when it loses its chunk store."""
    return Flipping(
        every_s=every_s,
        loses_store=loses_store,
        on_store=tuple(name for name in NAMES if name not in IN_ROWS),
        safe=SAFE,
        outage_s=OUTAGE_S,
        settle_s=settings.store_back_s + SLACK_S,
    )


@contextlib.contextmanager
def controls_of(stack: Stack, default: str) -> Iterator[Controls]:
    """Lend the flag of a stack of ours, its chunk store, and the workers' count of hand-overs."""
    with borrowed_flag(stack.database_url, default) as controls:
        yield controls._replace(
            lose_store=lambda: stack.processes[CHUNK_STORE].kill(),
            return_store=lambda: stack.restart(CHUNK_STORE),
            handovers=lambda: sum(_handovers(url) for url in stack.worker_metrics_urls),
        )


@contextlib.contextmanager
def borrowed_flag(database_url: str, default: str) -> Iterator[Controls]:
    """Lend the flag of the system on this database; in the end it is as it was found, or on the default."""
    found = recorded(database_url, lambda records: records.newest(NO_GENERATION))
    before = json.loads(found[1]) if found and found[1] else document_for(default, NAMES)
    try:
        yield Controls(flip=lambda backend: _flip(database_url, backend))
    finally:
        recorded(database_url, lambda records: records.add(before, by=WHO, reason="as it was before"))


def _flip(database_url: str, backend: str) -> None:
    recorded(database_url, lambda records: records.add(document_for(backend, NAMES), by=WHO))


def _handovers(metrics_url: str) -> int:
    with urlopen(metrics_url, timeout=10) as answer:  # noqa: S310 - our own worker
        return round(sum(map(float, HANDOVERS.findall(answer.read().decode()))))
