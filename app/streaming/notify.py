"""The `notify` backend: rows in PostgreSQL, and a NOTIFY in the transaction that stores them; readers are pushed to.

One LISTEN on one channel serves all streams of a process: a subscription per stream would cost a transaction each, and
PostgreSQL would search their list for every notification (https://www.postgresql.org/docs/current/sql-notify.html).
Hence every API process hears every chunk of all streams, and drops what nobody here follows.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg

from app.database import Database, DatabaseError, end_when_lost, translated_errors
from app.settings import Settings
from app.streaming.box import Box, Boxes
from app.streaming.contract import Chunk, StoreUnavailableError, encode
from app.streaming.pushed import PushedReader
from app.streaming.rows import RowReader, RowWriter
from app.telemetry import metrics

log = logging.getLogger(__name__)

CHANNEL = "streamgauge_chunks"
MOST_BYTES = 7999
"""What PostgreSQL takes as a payload."""
PATIENCE_S = 2.0
"""A server that does not answer for longer is taken for away; the connection is made anew."""
BACKOFF_S = (0.05, 2.0)


class Listener:
    """This process's one LISTEN, begun for its first listener, and made anew whenever it is lost.

    A process without viewers, such as a worker, has none: each of its wakings would cost PostgreSQL a transaction. Nor
    has one behind a pooler in transaction mode, which can't hear: its viewers look into the rows after each silence.
    """

    def __init__(self, settings: Settings, boxes: Boxes) -> None:
        self._url, self._lost_s, self._boxes = settings.database_url, settings.lost_s, boxes
        self._is_deaf = settings.database_pooler
        self._listening = asyncio.Event()
        self._staying: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator["Listener"]:
        """Listen for the length of the block."""
        async with Boxes.minded() as boxes:
            listener = cls(settings, boxes)
            try:
                yield listener
            finally:
                if listener._staying is not None:
                    listener._staying.cancel()
                    await asyncio.gather(listener._staying, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Box]:
        """Give a box that gets every entry of the stream of this name that is announced from now on."""
        if not self._is_deaf:
            await self._begin()
        box = self._boxes.add(name)
        try:
            yield box
        finally:
            self._boxes.remove(name, box)

    async def _begin(self) -> None:
        if self._staying is None:
            self._staying = asyncio.create_task(self._stay_connected())
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._listening.wait()
        except TimeoutError as error:
            raise StoreUnavailableError("not listening to the database; check DATABASE_URL and the server") from error

    async def _stay_connected(self) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                with translated_errors():
                    connection = await asyncpg.connect(self._url, timeout=PATIENCE_S, command_timeout=PATIENCE_S)
                    try:
                        await connection.execute(end_when_lost(self._lost_s))
                        await connection.add_listener(CHANNEL, self._hear)
                        pause = BACKOFF_S[0]
                        self._listening.set()
                        self._boxes.mark_gaps()
                        while True:  # a server that is stopped closes nothing: only a question tells
                            await asyncio.sleep(PATIENCE_S / 2)
                            with metrics.HUB_LAG_SECONDS.labels("notify").time():
                                await connection.execute("SELECT 1")
                    finally:
                        self._listening.clear()
                        connection.terminate()
                        self._boxes.mark_gaps()
            except DatabaseError as error:
                log.warning("not listening to the database, trying again in %.2f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S[1])

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        name, _, record = payload.partition(" ")
        if record:
            self._boxes.put(name, record.encode())
        else:
            self._boxes.mark_gap(name)


class NotifyReader(RowReader, PushedReader):
    """The viewer's side: what was announced, stitched to what is in the rows."""

    announces = True

    def __init__(self, database: Database, listener: Listener, settings: Settings) -> None:
        RowReader.__init__(self, database)
        PushedReader.__init__(self, settings.silence_s, "notify")
        self._listener = listener

    def listen(self, task_id: UUID) -> contextlib.AbstractAsyncContextManager[Box]:
        """Give a box that gets every entry announced from now on."""
        return self._listener.listen(str(task_id))


def announce(task_id: UUID, chunk: Chunk) -> str:
    """Say what a notification holds: the stream and the record, or the stream alone if that is too long for one."""
    record = encode(chunk)
    whole = len(record) + len(str(task_id)) < MOST_BYTES
    return f"{task_id} {record.decode()}" if whole else str(task_id)


@contextlib.asynccontextmanager
async def open_notify(settings: Settings, database: Database) -> AsyncIterator[tuple[RowWriter, NotifyReader]]:
    """Own this process's listening connection; everything else goes through its pool."""
    async with (
        RowWriter.over(database, settings, announce) as writer,
        Listener.connect(settings) as listener,
    ):
        yield writer, NotifyReader(database, listener, settings)
