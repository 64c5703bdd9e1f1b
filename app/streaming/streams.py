"""The `streams` backend: a Redis stream and a hash per stream in Valkey or Redis; a process reads all its logs at once.

An entry's id is its index + 1, so a place in a log is arithmetic. It can't be had on a cluster: see `Refusal`.
"""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn
from uuid import UUID

from app.database import Database
from app.settings import Settings
from app.streaming import keys
from app.streaming.box import Box
from app.streaming.contract import Entry, StoreUnavailableError, entry_of
from app.streaming.script import Script
from app.streaming.store import Layout, StoreReader, StoreWriter
from app.streaming.tail import Tail
from app.streaming.valkey import Valkey

CANCEL = Script.load("streams_cancel")
LAYOUT = Layout(
    keys.log_key,
    lambda _: (),  # whoever reads the log is woken by the entry itself
    open=Script.load("open").with_command("LLEN", "XLEN"),
    append=Script.load("streams_append"),
    status=Script.load("status").with_command("LLEN", "XLEN"),
    reap=Script.load("streams_reap"),
)
STOPS_KEPT = 1000
"""Ids of streams to stop that are kept at least: more than ever come before every process has read them."""


class Refusal:
    """Stands where a cluster would be asked: one read can't span its slots, and a read for each would be many."""

    def _refuse(self) -> NoReturn:
        raise StoreUnavailableError("the backend `streams` needs a single server; use `pubsub` on a cluster")

    async def run(self, *_: Any) -> Any:
        """Refuse."""
        self._refuse()

    async def call(self, *_: Any) -> Any:
        """Refuse."""
        self._refuse()

    def prepare(self, *_: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def listen(self, *_: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def listen_for_stop(self, *_: Any) -> NoReturn:
        """Refuse."""
        self._refuse()


class StreamsWriter(StoreWriter):
    """The producer's side: each chunk is one entry of the log."""

    def __init__(self, valkey: Valkey | Refusal, tail: Tail | Refusal, settings: Settings) -> None:
        super().__init__(valkey, LAYOUT, settings)
        self._tail = tail

    async def discard(self, task_id: UUID) -> None:
        """Undo `create`; who follows the stream already sees it after a silence."""
        await self._store.call("DEL", *LAYOUT.names(task_id))

    def listen_for_stop(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets a gap when a cancel has named this stream."""
        return self._tail.listen_for_stop(task_id)

    async def mark_cancelled(self, task_id: UUID) -> bytes:
        """Set the stream's cancel mark and name it to all processes."""
        names = keys.meta_key(task_id), keys.STOPS_KEY
        state: bytes = await self._store.run(CANCEL, names, str(task_id), STOPS_KEPT, keys.SHARED_TTL_S)
        return state


class StreamsReader(StoreReader):
    """The viewer's side: the process's shared read first, then the log, then both stitched."""

    def __init__(self, valkey: Valkey | Refusal, tail: Tail | Refusal, settings: Settings) -> None:
        super().__init__(valkey, LAYOUT, settings, "streams")
        self._tail = tail

    def listen(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets every entry stored from now on."""
        return self._tail.listen(keys.log_key(task_id))

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on."""
        entries = await self._store.call("XRANGE", keys.log_key(task_id), f"{start + 1}-0", "+")
        return [entry_of(fields[1]) for _, fields in entries]


@contextlib.asynccontextmanager
async def open_streams(settings: Settings, _database: Database) -> AsyncIterator[tuple[StreamsWriter, StreamsReader]]:
    """Own this process's two connections to the chunk store: for commands, for reading what is new."""
    if settings.store_cluster:
        refusal = Refusal()
        yield StreamsWriter(refusal, refusal, settings), StreamsReader(refusal, refusal, settings)
        return
    async with Valkey.connect(settings.redis_url) as valkey, Tail.connect(settings.redis_url, valkey) as tail:
        yield StreamsWriter(valkey, tail, settings), StreamsReader(valkey, tail, settings)
