"""The `pubsub` backend: a list, a hash and a channel per stream in Valkey or Redis; readers are pushed to."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from app.database import Database
from app.settings import Settings
from app.streaming import keys
from app.streaming.box import Box
from app.streaming.cluster import Cluster
from app.streaming.contract import Entry, entry_of
from app.streaming.hub import Hub
from app.streaming.script import Script
from app.streaming.store import Layout, StoreReader, StoreWriter
from app.streaming.valkey import Valkey

CANCEL, DISCARD = map(Script.load, ("cancel", "discard"))
LAYOUT = Layout(
    keys.chunks_key,
    lambda task_id: (keys.channel(task_id),),
    *map(Script.load, ("open", "append", "status", "reap")),
)


class PubSubWriter(StoreWriter):
    """The producer's side: each chunk is pushed to the list and published in one step."""

    def __init__(self, valkey: Valkey | Cluster, hub: Hub | Cluster, settings: Settings) -> None:
        super().__init__(valkey, LAYOUT, settings)
        self._hub = hub

    async def discard(self, task_id: UUID) -> None:
        """Undo `create`, and wake viewers, so that they see at once that the stream is not here."""
        await self._store.run(DISCARD, LAYOUT.names(task_id), keys.channel(task_id))

    def listen_for_stop(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets the message which a cancel publishes."""
        return self._hub.listen(keys.control_channel(task_id))

    async def mark_cancelled(self, task_id: UUID) -> bytes:
        """Set the stream's cancel mark and publish that it is set."""
        state: bytes = await self._store.run(CANCEL, (keys.meta_key(task_id),), keys.control_channel(task_id))
        return state


class PubSubReader(StoreReader):
    """The viewer's side: the process's shared subscription first, then the log, then both stitched."""

    def __init__(self, valkey: Valkey | Cluster, hub: Hub | Cluster, settings: Settings) -> None:
        super().__init__(valkey, LAYOUT, settings, "pubsub")
        self._hub = hub

    def listen(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets every entry published from now on."""
        return self._hub.listen(keys.channel(task_id))

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on."""
        records = await self._store.call("LRANGE", keys.chunks_key(task_id), start, -1)
        return [entry_of(record) for record in records]


@contextlib.asynccontextmanager
async def open_pubsub(
    settings: Settings,
    _database: Database,
) -> AsyncIterator[tuple[PubSubWriter, PubSubReader]]:
    """Own this process's two connections to the chunk store, or to each node of it: for commands, for messages."""
    if settings.store_cluster:
        async with Cluster.connect(settings.redis_url) as nodes:
            yield PubSubWriter(nodes, nodes, settings), PubSubReader(nodes, nodes, settings)
        return
    async with Valkey.connect(settings.redis_url) as valkey, Hub.connect(settings.redis_url) as hub:
        yield PubSubWriter(valkey, hub, settings), PubSubReader(valkey, hub, settings)
