"""One attempt at one stream: an ordered, fenced series of appends that survives the loss of its store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from time import time_ns
from typing import Any
from uuid import UUID

from app.llm import Delta, ModelError
from app.streaming.contract import (
    Answer,
    Chunk,
    ChunkType,
    FencedError,
    Opening,
    Outcome,
    StoreUnavailableError,
    StreamMissingError,
    StreamWriter,
    text_of,
)
from app.streaming.polling import PollingWriter
from app.telemetry import metrics, tracing

log = logging.getLogger(__name__)

HAND_OVER_AFTER_S = 4.0
"""A store that stays silent this long in mid-stream is lost: one dropped connection plus a reconnect fit into it."""
RETRY_S = 0.1


class CancelledByUserError(Exception):
    """Somebody asked for the stream to be cancelled."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where a stream is pinned, where it goes if that is lost, and how long the latter may be away (seconds)."""

    backend: str
    writer: StreamWriter
    safe: PollingWriter
    lease_s: float
    patience_s: float


class Producer:
    """One attempt at one stream: an ordered, fenced series of appends that survives the loss of its store.

    It holds the whole log (an answer is small), so that the safe backend can take the stream over from index 0.
    """

    def __init__(self, task_id: UUID, store: Store, opening: Opening, held: list[Chunk]) -> None:
        self._task_id, self._place, self._writer = task_id, store, store.writer
        self.attempt, self._log = opening.attempt, held
        self.backend = store.backend
        self._unanswered: Chunk | None = None
        self._exemplars = tracing.Exemplars(task_id)
        self._pending: list[Delta] = []
        self._ready = asyncio.Event()
        self._finished = False
        self._appended_at = asyncio.get_running_loop().time()

    @property
    def begins_anew(self) -> bool:
        """Whether an earlier attempt has left something in the log that this one must discard."""
        return bool(self._log) and self._log[-1].chunk_type is not ChunkType.RESET

    @property
    def text(self) -> str:
        """What a viewer shows: exactly what the chunks since the last reset hold, so the message equals its stream."""
        return text_of(self._log)

    async def produce(self, deltas: AsyncGenerator[Delta], note: Callable[[Delta], None]) -> None:
        """Append everything that the model says, noting each delta first. Raises what ended it early."""
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send())
                watching = [group.create_task(self._keep_lease()), group.create_task(self._watch_cancel())]
                async with contextlib.aclosing(deltas):
                    async for delta in deltas:
                        note(delta)
                        if delta.text:
                            self._pending.append(delta)
                            self._ready.set()
                self._finished = True
                self._ready.set()
                await sending
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as group_error:
            first = _first(group_error)
            if isinstance(first, ModelError):
                await self._flush()  # what it said before it failed is the viewers'
            raise first from group_error

    async def append(self, kind: ChunkType, text: str = "", deltas: int = 0, ts_ns: int = 0, **more: Any) -> None:
        """Append one chunk, retrying a lost reply and handing the stream over when the store is lost."""
        index = self._log[-1].chunk_index + 1 if self._log else 0
        chunk = Chunk(index, kind, text, self.attempt, deltas, ts_ns or time_ns(), **more)
        if self._unanswered is not None:  # it was interrupted and may or may not be stored: a repeat is harmless
            await self._store(self._unanswered)
        self._log.append(chunk)
        self._unanswered = chunk
        answer = await self._store(chunk)
        self._unanswered = None
        self._appended_at = asyncio.get_running_loop().time()
        metrics.CHUNKS_APPENDED.labels(self.backend).inc()
        if not chunk.chunk_index:
            tracing.event("first_chunk")
        if answer.cancelled and kind is ChunkType.CONTENT:
            raise CancelledByUserError

    async def hand_over(self) -> None:
        """Move the stream with its whole log to the safe backend."""
        log.warning("handing stream %s over from %s: its store is lost", self._task_id, self.backend)
        safe = self._place.safe
        async with asyncio.timeout(self._place.patience_s):
            while True:
                try:
                    moved = await safe.adopt(self._task_id, self.attempt, self._log)
                    break
                except StoreUnavailableError:
                    await asyncio.sleep(RETRY_S)
        if not moved:
            raise FencedError
        self._writer, self.backend = safe, "polling"
        metrics.HANDOVERS.inc()
        tracing.event("hand_over", chunks=len(self._log))

    async def _send(self) -> None:
        """Append what is pending. Deltas share a chunk only if they came while the one before was being stored."""
        while not (self._finished and not self._pending):
            await self._ready.wait()
            self._ready.clear()
            await self._flush()
            if self._finished:
                self._ready.set()

    async def _flush(self) -> None:
        pending, self._pending = self._pending, []
        if not pending:
            return
        text, held_ns = "".join(delta.text for delta in pending), pending[-1].ts_ns
        await self.append(ChunkType.CONTENT, text, len(pending), held_ns)
        metrics.PUBLISH_SECONDS.labels(self.backend).observe((time_ns() - held_ns) / 1e9, self._exemplars.take())
        metrics.DELTAS_COALESCED.labels(self.backend).inc(len(pending) - 1)

    async def _store(self, chunk: Chunk) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HAND_OVER_AFTER_S
        while True:
            try:
                answer = await self._writer.append(self._task_id, chunk)
            except StoreUnavailableError:
                if self._writer is self._place.safe:
                    if loop.time() > deadline + self._place.patience_s:
                        raise
                elif loop.time() > deadline:
                    await self.hand_over()
                    return Answer(Outcome.OK)
                await asyncio.sleep(RETRY_S)
                continue
            if answer.outcome is Outcome.DUPLICATE:
                metrics.DUPLICATE_APPENDS.labels(self.backend).inc()
            if answer.outcome in {Outcome.FENCED, Outcome.CLOSED}:
                metrics.FENCED.labels(self.backend).inc()
                raise FencedError
            if answer.outcome in {Outcome.MISSING, Outcome.GAP}:
                await self.hand_over()
            return answer

    async def _keep_lease(self) -> None:
        """Renew the lease while the model is silent; an append renews it anyway."""
        loop, pause = asyncio.get_running_loop(), self._place.lease_s / 3
        while True:
            await asyncio.sleep(pause)
            if loop.time() - self._appended_at < pause:
                continue
            with contextlib.suppress(StoreUnavailableError, StreamMissingError):
                answer = await self._writer.renew(self._task_id, self.attempt)
                if answer.outcome in {Outcome.FENCED, Outcome.CLOSED}:
                    raise FencedError
                if answer.cancelled:
                    raise CancelledByUserError

    async def _watch_cancel(self) -> None:
        while True:
            try:
                await self._writer.wait_cancel(self._task_id)
            except (StoreUnavailableError, StreamMissingError):
                await asyncio.sleep(1)  # the store may come back, or the stream may be handed over meanwhile
            else:
                raise CancelledByUserError


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose what really ended the attempt: being fenced outranks a cancel, and that outranks the rest."""
    leaves = [
        error
        for part in group.exceptions
        for error in (part.exceptions if isinstance(part, BaseExceptionGroup) else (part,))
    ]
    return min(
        leaves,
        key=lambda error: (not isinstance(error, FencedError), not isinstance(error, CancelledByUserError)),
    )
