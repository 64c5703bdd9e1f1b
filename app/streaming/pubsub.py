"""The `pubsub` backend: a list, a hash and a channel per stream in Valkey or Redis; readers are pushed to."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from uuid import UUID

import msgspec

from app.database import Database
from app.settings import Settings
from app.streaming import keys
from app.streaming.box import Box
from app.streaming.cluster import Cluster
from app.streaming.contract import (
    STORED,
    Answer,
    Chunk,
    ChunkType,
    Entry,
    FencedError,
    Heard,
    Opening,
    Outcome,
    Status,
    StoreUnavailableError,
    StreamMissingError,
    StreamOverError,
    encode,
    entry_of,
)
from app.streaming.hub import Hub
from app.streaming.pushed import PushedReader
from app.streaming.valkey import RefusedError, Script, Valkey

CREATE, OPEN, APPEND, RENEW = map(Script.load, ("create", "open", "append", "renew"))
CANCEL, STATUS, REAP, DISCARD = map(Script.load, ("cancel", "status", "reap", "discard"))


class PubSubWriter:
    """The producer's side over Valkey: every step is one script, hence atomic."""

    def __init__(self, valkey: Valkey | Cluster, hub: Hub | Cluster, settings: Settings) -> None:
        self._valkey, self._hub = valkey, hub
        self._lease_ms, self._ttl_s = round(settings.lease_s * 1000), settings.chunk_ttl_s
        self._patience_ms = round(settings.queue_patience_s * 1000)

    async def create(self, task_id: UUID) -> None:
        """Make the stream known before its task is enqueued."""
        await self._valkey.run(CREATE, (keys.meta_key(task_id),), self._patience_ms, self._ttl_s)

    async def discard(self, task_id: UUID) -> None:
        """Undo `create`, and wake viewers, so that they see at once that the stream is not here."""
        names = keys.chunks_key(task_id), keys.meta_key(task_id)
        await self._valkey.run(DISCARD, names, keys.channel(task_id))

    async def open(self, task_id: UUID, attempt: int) -> Opening:
        """Begin this attempt, fencing all earlier ones."""
        names = keys.chunks_key(task_id), keys.meta_key(task_id)
        state, newest, next_index = await self._valkey.run(OPEN, names, attempt, self._lease_ms, self._ttl_s)
        if state == b"missing":
            raise StreamMissingError(f"stream {task_id} is not in the chunk store")
        if state != b"open":
            raise StreamOverError(f"stream {task_id} already ended: {state.decode()}")
        if newest != attempt:
            raise FencedError(f"attempt {newest} at stream {task_id} has begun")
        return Opening(attempt, next_index)

    async def append(self, task_id: UUID, chunk: Chunk) -> Answer:
        """Store one chunk, set the end state and publish: all or nothing."""
        kind = () if chunk.chunk_type is ChunkType.CONTENT else (str(chunk.chunk_type),)
        names = keys.chunks_key(task_id), keys.meta_key(task_id)
        place = keys.channel(task_id), self._ttl_s, chunk.chunk_index
        return _answer(await self._valkey.run(APPEND, names, chunk.attempt, *place, encode(chunk), *kind))

    def lane(self, task_id: UUID, attempt: int, heard: Heard) -> Callable[[Chunk], None]:
        """Give a way to append content without waiting."""
        names = keys.chunks_key(task_id), keys.meta_key(task_id)
        append = self._valkey.prepare(APPEND, names, attempt, keys.channel(task_id), self._ttl_s)
        hear = partial(_hear, heard)

        def push(chunk: Chunk) -> None:
            append(chunk.chunk_index, encode(chunk), hear)

        return push

    async def renew(self, task_id: UUID, attempt: int) -> Answer:
        """Renew the producer's lease without a chunk."""
        names = keys.chunks_key(task_id), keys.meta_key(task_id)
        return _answer(await self._valkey.run(RENEW, names, attempt, self._lease_ms, self._ttl_s))

    async def wait_cancel(self, task_id: UUID) -> None:
        """Return once somebody asked to cancel this stream."""
        async with self._hub.listen(keys.control_channel(task_id)) as box:
            while True:
                heard = await box.take(patience_s=60)
                if heard or await self._valkey.call("HGET", keys.meta_key(task_id), "cancel"):
                    return

    async def cancel(self, task_id: UUID) -> str:
        """Ask the producer to stop; answers the stream's state."""
        state = await self._valkey.run(CANCEL, (keys.meta_key(task_id),), keys.control_channel(task_id))
        if state == b"missing":
            raise StreamMissingError(f"stream {task_id} is not in the chunk store")
        return str(state.decode())


class PubSubReader(PushedReader):
    """The viewer's side over Valkey: the process's shared subscription first, then the log, then both stitched."""

    def __init__(self, valkey: Valkey | Cluster, hub: Hub | Cluster, settings: Settings) -> None:
        super().__init__(settings.silence_s)
        self._valkey, self._hub, self._ttl_s = valkey, hub, settings.chunk_ttl_s

    def listen(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets every entry published from now on."""
        return self._hub.listen(keys.channel(task_id))

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on."""
        records = await self._valkey.call("LRANGE", keys.chunks_key(task_id), start, -1)
        return [entry_of(record) for record in records]

    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state, or None when the store does not hold it."""
        found = await self._valkey.run(STATUS, (keys.chunks_key(task_id), keys.meta_key(task_id)))
        if not found:
            return None
        state, attempt, next_index, last_reset, lease_left_ms = found
        return Status(state.decode(), attempt, next_index, last_reset, lease_left_ms / 1000)

    async def reap(self, task_id: UUID, chunk: Chunk, grace_s: float) -> bool:
        """Close a stream whose lease ran out more than `grace_s` ago; True for exactly one caller."""
        status = await self.status(task_id)
        if status is None or status.lease_left_s > -grace_s:
            return False
        chunk = msgspec.structs.replace(chunk, chunk_index=status.next_index, attempt=status.attempt)
        closed = await self._valkey.run(
            REAP,
            (keys.chunks_key(task_id), keys.meta_key(task_id)),
            round(grace_s * 1000),
            status.attempt,
            status.next_index,
            str(chunk.chunk_type),
            encode(chunk),
            self._ttl_s,
            keys.channel(task_id),
        )
        return bool(closed)


def _answer(reply: bytes) -> Answer:
    outcome, _, cancel = reply.decode().partition(" ")
    return Answer(Outcome(outcome), bool(cancel))


def _hear(heard: Heard, reply: Any) -> None:
    """Pass a reply to an append on; a refusal is one to ask again about, with the patience of `append`."""
    if reply == b"ok":
        heard(STORED)
    elif isinstance(reply, StoreUnavailableError):
        heard(reply)
    elif isinstance(reply, bytes):
        heard(_answer(reply))
    else:
        heard(RefusedError(str(reply)))


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
