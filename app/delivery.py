"""The consumer: finds a stream for a viewer, and decides where that viewer begins: the resume table of the contract."""

from time import time_ns
from uuid import UUID

from app.frames import REBUILT_END, Frames
from app.records import Pin, Records
from app.settings import Settings
from app.streaming.contract import (
    Status,
    StoreUnavailableError,
)
from app.streaming.pairs import Backends
from app.telemetry import logs, metrics
from app.view import Joining, View


class UnknownStreamError(Exception):
    """No such stream was ever posted."""


class NothingLeftError(Exception):
    """The viewer has seen the stream's terminal: there is nothing to send, ever again."""


class Delivery:
    """Serves streams to viewers from whichever backend holds them."""

    def __init__(self, settings: Settings, records: Records, backends: Backends) -> None:
        self._settings, self._records, self._backends = settings, records, backends
        self._frames = Frames()

    async def join(self, task_id: UUID, last_event_id: str | None, owner: str | None = None) -> "View":
        """Prepare a viewer's stream from its last event id; another owner's is unknown.

        Raises `UnknownStreamError`, `UnknownBackendError`, `NothingLeftError`, or `DatabaseUnavailableError`.
        """
        asked_ns = time_ns()
        pin = await self._records.pin(task_id, owner)
        if pin is None:
            raise UnknownStreamError
        logs.about(task_id, pin.message_id, pin.backend)
        self._backends.check(pin.backend)
        if last_event_id == str(REBUILT_END):
            raise NothingLeftError
        status = await self._status(pin, task_id)
        if status is None:
            joining = Joining(0, reset=last_event_id is not None, tail=0)
        else:
            joining = join_at(status, last_event_id)
        if last_event_id is not None:
            metrics.RESUMES.labels(pin.backend).inc()
        return View(self._settings, self._records, self._backends, self._frames, task_id, pin, joining, asked_ns)

    async def _status(self, pin: Pin, task_id: UUID) -> Status | None:
        try:
            return await self._backends.readers[pin.backend].status(task_id)
        except StoreUnavailableError:
            return None  # the view waits for the store, or for the hand-over


def join_at(status: Status, last_event_id: str | None) -> Joining:
    """Decide where a viewer begins: the resume table of the contract. Raises `NothingLeftError`."""
    tail = status.next_index - 1
    if last_event_id is None:
        return Joining(status.last_reset, reset=False, tail=tail)
    seen = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 10 else -1
    if not 0 <= seen <= tail:
        return Joining(status.last_reset, reset=True, tail=tail)
    if seen == tail and status.state != "open":
        raise NothingLeftError
    return Joining(max(seen + 1, status.last_reset), reset=False, tail=tail)
