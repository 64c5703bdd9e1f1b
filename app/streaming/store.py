"""What the backends share that keep streams in Valkey or Redis: a log and a hash, and scripts that move both at once.

They differ in what the log is, and in how somebody hears of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import msgspec

from app.settings import Settings
from app.streaming import keys
from app.streaming.box import Box
from app.streaming.contract import (
    STORED,
    Answer,
    Chunk,
    ChunkType,
    FencedError,
    Heard,
    Opening,
    Outcome,
    Status,
    StoreUnavailableError,
    StreamMissingError,
    StreamOverError,
    encode,
)
from app.streaming.pushed import PushedReader
from app.streaming.script import Prepared, Script
from app.streaming.valkey import RefusedError

CREATE, RENEW = map(Script.load, ("create", "renew"))
LOOK_AGAIN_S = 60
"""A producer that has heard nothing for this long asks whether it should stop."""


class Store(Protocol):
    """What takes commands: a server or a cluster of them."""

    async def run(self, script: Script, keys: tuple[str, ...], *args: Any) -> Any:
        """Run a script. Raises `StoreUnavailableError`."""

    async def call(self, *command: Any) -> Any:
        """Send one command and give its reply. Raises `StoreUnavailableError`."""

    def prepare(self, script: Script, keys: tuple[str, ...], *args: Any) -> Prepared:
        """Give a call of a script that needs no waiting."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What the log is: its key, the channels on which it is announced, and the scripts that know its type."""

    log: Callable[[UUID], str]
    channels: Callable[[UUID], tuple[str, ...]]
    open: Script
    append: Script
    status: Script
    reap: Script

    def names(self, task_id: UUID) -> tuple[str, str]:
        """Give the keys of a stream: log and hash."""
        return self.log(task_id), keys.meta_key(task_id)


class StoreWriter(ABC):
    """The producer's side: every step is one script, hence atomic."""

    def __init__(self, store: Store, layout: Layout, settings: Settings) -> None:
        self._store, self._layout = store, layout
        self._lease_ms, self._ttl_s = round(settings.lease_s * 1000), settings.chunk_ttl_s
        self._patience_ms = round(settings.queue_patience_s * 1000)

    @abstractmethod
    async def discard(self, task_id: UUID) -> None:
        """Undo `create`."""

    @abstractmethod
    def listen_for_stop(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets something, or a gap, whenever the stream's cancel mark may have been set."""

    @abstractmethod
    async def mark_cancelled(self, task_id: UUID) -> bytes:
        """Set the stream's cancel mark and tell who listens for it; answers the stream's state, or `missing`."""

    async def create(self, task_id: UUID) -> None:
        """Make the stream known before its task is enqueued."""
        await self._store.run(CREATE, (keys.meta_key(task_id),), self._patience_ms, self._ttl_s)

    async def open(self, task_id: UUID, attempt: int) -> Opening:
        """Begin this attempt, fencing all earlier ones."""
        names = self._layout.names(task_id)
        found = await self._store.run(self._layout.open, names, attempt, self._lease_ms, self._ttl_s)
        state, newest, next_index = found
        if state == b"missing":
            raise StreamMissingError(f"stream {task_id} is not in the chunk store")
        if state != b"open":
            raise StreamOverError(f"stream {task_id} already ended: {state.decode()}")
        if newest != attempt:
            raise FencedError(f"attempt {newest} at stream {task_id} has begun")
        return Opening(attempt, next_index)

    async def append(self, task_id: UUID, chunk: Chunk) -> Answer:
        """Store one chunk, set the end state and announce it: all or nothing."""
        kind = () if chunk.chunk_type is ChunkType.CONTENT else (str(chunk.chunk_type),)
        place = *self._layout.channels(task_id), self._ttl_s, chunk.chunk_index
        names = self._layout.names(task_id)
        return _answer(await self._store.run(self._layout.append, names, chunk.attempt, *place, encode(chunk), *kind))

    def lane(self, task_id: UUID, attempt: int, heard: Heard) -> Callable[[Chunk], None]:
        """Give a way to append content without waiting."""
        place = *self._layout.channels(task_id), self._ttl_s
        append = self._store.prepare(self._layout.append, self._layout.names(task_id), attempt, *place)
        hear = partial(_hear, heard)

        def push(chunk: Chunk) -> None:
            append(chunk.chunk_index, encode(chunk), hear)

        return push

    async def renew(self, task_id: UUID, attempt: int) -> Answer:
        """Renew the producer's lease without a chunk."""
        names = self._layout.names(task_id)
        return _answer(await self._store.run(RENEW, names, attempt, self._lease_ms, self._ttl_s))

    async def wait_cancel(self, task_id: UUID) -> None:
        """Return once somebody asked to cancel this stream."""
        async with self.listen_for_stop(task_id) as box:
            while True:
                heard = await box.take(LOOK_AGAIN_S)
                if heard or await self._store.call("HGET", keys.meta_key(task_id), "cancel"):
                    return

    async def cancel(self, task_id: UUID) -> str:
        """Ask the producer to stop; answers the stream's state."""
        state = await self.mark_cancelled(task_id)
        if state == b"missing":
            raise StreamMissingError(f"stream {task_id} is not in the chunk store")
        return state.decode()


class StoreReader(PushedReader):
    """The viewer's side: what is heard, stitched to what the log holds."""

    def __init__(self, store: Store, layout: Layout, settings: Settings, backend: str) -> None:
        super().__init__(settings.silence_s, backend)
        self._store, self._layout, self._ttl_s = store, layout, settings.chunk_ttl_s

    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state, or None when the store does not hold it."""
        found = await self._store.run(self._layout.status, self._layout.names(task_id))
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
        closed = await self._store.run(
            self._layout.reap,
            self._layout.names(task_id),
            round(grace_s * 1000),
            status.attempt,
            status.next_index,
            str(chunk.chunk_type),
            encode(chunk),
            self._ttl_s,
            *self._layout.channels(task_id),
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
