"""The `polling` backend: rows in PostgreSQL that every reader selects anew, every 100 ms by default."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from time import monotonic
from uuid import UUID

from app.database import Database
from app.settings import Settings
from app.streaming.contract import Entry, Offer, StreamMissingError, decline
from app.streaming.rows import RowReader, RowWriter


class PollingReader(RowReader):
    """The viewer's side: one indexed range of new rows a poll."""

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__(database)
        self._interval_s, self._silence_s = settings.polling_interval_s, settings.silence_s

    async def follow(
        self,
        task_id: UUID,
        start: int,
        offer: Offer = decline,  # noqa: ARG002 - the contract's; nothing is pushed here
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield batches of entries from `start` on, and an empty batch after every silence.

        The first look is at once; the phase of the following ones is random, so that readers do not march in step.
        """
        position = start
        if (entries := await self._checked(task_id, position)) is None:
            return
        yield entries
        heard = monotonic()
        pause = random.uniform(0, self._interval_s)  # noqa: S311 - spreads load, guards nothing
        while not (entries and entries[-1].is_terminal):
            if entries:
                position, heard = entries[-1].index + 1, monotonic()
            await asyncio.sleep(pause)
            pause = self._interval_s
            entries = await self.get_chunks(task_id, position)
            if not entries and monotonic() - heard >= self._silence_s:
                if (checked := await self._checked(task_id, position)) is None:
                    return
                yield (entries := checked)
                heard = monotonic()
            elif entries:
                yield entries

    async def _checked(self, task_id: UUID, position: int) -> list[Entry] | None:
        """What follows `position`, having made sure that stream and log still exist; None if it ended before that."""
        status = await self.status(task_id)
        entries = await self.get_chunks(task_id, position)
        if status is None or not status.explains(position, entries):
            raise StreamMissingError(f"stream {task_id} is not in the database")
        return None if status.ended_before(position) else entries


@contextlib.asynccontextmanager
async def open_polling(settings: Settings, database: Database) -> AsyncIterator[tuple[RowWriter, PollingReader]]:
    """Pair a writer and a reader over this process's pool of connections."""
    async with RowWriter.over(database, settings) as writer:
        yield writer, PollingReader(database, settings)
