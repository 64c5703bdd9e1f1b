"""The reference backend: one process's memory. Tests hold the others to what it does; nothing else uses it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from time import monotonic
from uuid import UUID

import msgspec

from app.streaming.contract import (
    OPEN,
    TERMINALS,
    Answer,
    Chunk,
    ChunkType,
    Entry,
    FencedError,
    Offer,
    Opening,
    Outcome,
    Status,
    StreamMissingError,
    StreamOverError,
    decline,
    encode,
    entry_of,
)


@dataclass
class _Log:
    lease_until: float
    entries: list[Entry] = field(default_factory=list)
    state: str = OPEN
    attempt: int = 0
    last_reset: int = 0
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    grown: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryStreams:
    """Writer and reader in one, over a dict."""

    def __init__(
        self,
        *,
        lease_s: float = 15,
        queue_patience_s: float = 600,
        silence_s: float = 2,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._lease_s, self._patience_s, self._silence_s = lease_s, queue_patience_s, silence_s
        self._clock = clock
        self._logs: dict[UUID, _Log] = {}

    async def create(self, task_id: UUID) -> None:
        """Make the stream known."""
        self._logs.setdefault(task_id, _Log(lease_until=self._clock() + self._patience_s))

    async def discard(self, task_id: UUID) -> None:
        """Undo `create`."""
        self._logs.pop(task_id, None)

    async def open(self, task_id: UUID, attempt: int) -> Opening:
        """Begin this attempt."""
        log = self._log(task_id)
        if log.state != OPEN:
            raise StreamOverError(f"stream {task_id} already ended: {log.state}")
        if attempt < log.attempt:
            raise FencedError(f"attempt {log.attempt} has begun")
        log.attempt = attempt
        log.lease_until = self._clock() + self._lease_s
        return Opening(log.attempt, len(log.entries))

    async def append(self, task_id: UUID, chunk: Chunk) -> Answer:
        """Store one chunk."""
        log = self._logs.get(task_id)
        outcome = _judge(log, chunk)
        if log is None:
            return Answer(outcome)
        if outcome is Outcome.OK:
            self._store(log, chunk)
            log.lease_until = self._clock() + self._lease_s
        return Answer(outcome, log.cancel.is_set())

    async def renew(self, task_id: UUID, attempt: int) -> Answer:
        """Renew the lease."""
        log = self._logs.get(task_id)
        if log is None:
            return Answer(Outcome.MISSING)
        if log.attempt != attempt or log.state != OPEN:
            return Answer(Outcome.FENCED if log.attempt != attempt else Outcome.CLOSED, log.cancel.is_set())
        log.lease_until = self._clock() + self._lease_s
        return Answer(Outcome.OK, log.cancel.is_set())

    async def wait_cancel(self, task_id: UUID) -> None:
        """Return once somebody asked to cancel."""
        log = self._logs.get(task_id)
        await (log.cancel if log else asyncio.Event()).wait()

    async def cancel(self, task_id: UUID) -> str:
        """Ask the producer to stop."""
        log = self._log(task_id)
        if log.state == OPEN:
            log.cancel.set()
        return log.state

    async def follow(
        self,
        task_id: UUID,
        start: int,
        offer: Offer = decline,  # noqa: ARG002 - the contract's; nothing is pushed here
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield what is stored from `start` on, then what comes."""
        position = start
        while True:
            log = self._log(task_id)
            grown, entries = log.grown, log.entries[position:]
            if not entries and log.state != OPEN:
                return
            position += len(entries)
            yield entries
            if entries and entries[-1].is_terminal:
                return
            try:
                async with asyncio.timeout(self._silence_s):
                    await grown.wait()
            except TimeoutError:
                continue

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give what is stored from `start` on."""
        log = self._logs.get(task_id)
        return log.entries[start:] if log else []

    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state."""
        log = self._logs.get(task_id)
        if log is None:
            return None
        return Status(log.state, log.attempt, len(log.entries), log.last_reset, log.lease_until - self._clock())

    async def reap(self, task_id: UUID, chunk: Chunk, grace_s: float) -> bool:
        """Close a stream whose producer is lost."""
        log = self._logs.get(task_id)
        if log is None or log.state != OPEN or self._clock() < log.lease_until + grace_s:
            return False
        self._store(log, msgspec.structs.replace(chunk, chunk_index=len(log.entries), attempt=log.attempt))
        return True

    def _log(self, task_id: UUID) -> _Log:
        try:
            return self._logs[task_id]
        except KeyError:
            raise StreamMissingError(f"stream {task_id} is not in memory") from None

    def _store(self, log: _Log, chunk: Chunk) -> None:
        log.entries.append(entry_of(encode(chunk)))
        if chunk.chunk_type is ChunkType.RESET:
            log.last_reset = chunk.chunk_index
        if chunk.chunk_type in TERMINALS:
            log.state = str(chunk.chunk_type)
        log.grown.set()
        log.grown = asyncio.Event()


def _judge(log: _Log | None, chunk: Chunk) -> Outcome:
    if log is None:
        return Outcome.MISSING
    if chunk.attempt != log.attempt:
        return Outcome.FENCED
    reaped = log.state not in {OPEN, chunk.chunk_type} and chunk.chunk_index == len(log.entries) - 1
    if chunk.chunk_index < len(log.entries) and not reaped:
        return Outcome.DUPLICATE
    if log.state != OPEN:
        return Outcome.CLOSED
    return Outcome.OK if chunk.chunk_index == len(log.entries) else Outcome.GAP
