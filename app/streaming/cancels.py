"""The cancel marks in PostgreSQL: asked for by one query for all streams of a process."""

import asyncio
import contextlib
from uuid import UUID

from app.database import Database, DatabaseError

CANCEL_POLL_S = 0.5
"""How often a producer's process asks whether somebody wants one of its streams cancelled."""


class CancelWatch:
    """Waits for cancel marks on behalf of all streams of this process, with one query for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def wait(self, task_id: UUID) -> None:
        """Return once the stream's cancel mark is set."""
        event = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(event)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            await event.wait()
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]
            if not self._waiting and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(DatabaseError):
                async with self._database.driver() as connection:
                    marked = await connection.fetch(
                        "SELECT task_id FROM stream WHERE task_id = ANY($1) AND cancel_requested",
                        list(self._waiting),
                    )
                for row in marked:
                    for event in self._waiting.get(row["task_id"], ()):
                        event.set()
            await asyncio.sleep(CANCEL_POLL_S)
