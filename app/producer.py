"""One attempt at one stream: an ordered, fenced series of appends that survives the loss of its store."""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from time import time_ns
from typing import Any
from uuid import UUID

from app.attempt_ends import CancelledByUserError, deciding, failure_of, keep_lease, watch_cancel
from app.attempt_figures import Figures
from app.settings import IN_ROWS
from app.speech import Delta, Hear
from app.streaming.backends import SAFE
from app.streaming.contract import (
    STORED,
    Answer,
    Chunk,
    ChunkType,
    FencedError,
    Opening,
    Outcome,
    StoreUnavailableError,
    StreamWriter,
    SwiftWriter,
    text_of,
)
from app.streaming.rows import RowWriter
from app.telemetry import logs, metrics, tracing
from app.telemetry.metrics import HandOver

log = logging.getLogger(__name__)

HAND_OVER_AFTER_S = 4.0
"""A store that stays silent this long in mid-stream is lost: one dropped connection plus a reconnect fit into it."""
RETRY_S = 0.1
WAITING_CHARACTERS = 1 << 16
"""Text that the store has not taken yet, beyond which no more is read of the model."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where a stream is pinned, where it goes if that is lost, and how long the latter may be away (seconds)."""

    backend: str
    writer: StreamWriter
    safe: RowWriter
    lease_s: float
    patience_s: float


class Producer:
    """One attempt at one stream: an ordered, fenced series of appends that survives the loss of its store.

    One append is under way at a time; what the model says meanwhile shares the next chunk. While all is well no task
    wakes up for a chunk: a delta begins an append in the model's callback, and the store's answer ends it in its own. A
    task settles the rest, such as a lost reply. It holds the whole log (an answer is bounded), so that the safe backend
    can take the stream over from index 0.
    """

    def __init__(self, task_id: UUID, store: Store, opening: Opening, held: list[Chunk]) -> None:
        self._task_id, self._place = task_id, store
        self.attempt, self._log = opening.attempt, held
        self._next_index = held[-1].chunk_index + 1 if held else 0
        self._unanswered: Chunk | None = None
        self._pending: list[Delta] = []
        self._waiting = 0
        self._room: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._is_leaving = False
        self.figures = Figures(task_id, store.backend)
        self._enter(store.backend, store.writer)

    def _enter(self, backend: str, writer: StreamWriter) -> None:
        """Append there from now on."""
        self.backend, self._writer = backend, writer
        self._push = None
        if isinstance(writer, SwiftWriter):
            self._push = writer.lane(self._task_id, self.attempt, self._hear_store)

    @property
    def begins_anew(self) -> bool:
        """Whether an earlier attempt has left something in the log that this one must discard."""
        return bool(self._log) and self._log[-1].chunk_type is not ChunkType.RESET

    @property
    def text(self) -> str:
        """What a viewer shows: exactly what the chunks since the last reset hold, so the message equals its stream."""
        return text_of(self._log)

    async def produce(self, speak: Callable[[Hear], Awaitable[None]], note: Callable[[Delta], None]) -> None:
        """Append everything that the model says, noting each delta first. Raises what ended it early."""
        self._note, self._context = note, contextvars.copy_context()
        try:
            async with asyncio.TaskGroup() as group:
                watching = [
                    group.create_task(keep_lease(self._renew, self._place.lease_s)),
                    group.create_task(watch_cancel(self._wait_cancel)),
                ]
                self._group = group
                if self._is_leaving:
                    self._move_later()
                try:
                    failure = await failure_of(speak(self._hear_model))
                    await self._all_stored()
                finally:
                    self._group = None  # an answer that comes later finds nobody: the next `append` asks again
                    self._push = None  # it holds this producer: else both wait for a full collection
                for task in watching:
                    task.cancel()
        except BaseExceptionGroup as group_error:
            raise deciding(group_error) from group_error
        if failure is not None:
            raise failure

    def leave(self) -> None:
        """Hand the stream over to the safe backend at the next chunk's end, unless its state is in rows already."""
        if self.backend in IN_ROWS or self._is_leaving:
            return
        self._is_leaving = True
        if self._unanswered is None and self._group is not None:
            self._move_later()

    async def append(self, kind: ChunkType, text: str = "", **more: Any) -> None:
        """Append one chunk, retrying a lost reply and handing the stream over when the store is lost."""
        if self._unanswered is not None:  # it was interrupted and may or may not be stored: a repeat is harmless
            await self._store(self._unanswered)
        answer = await self._store(self._add(kind, text, 0, time_ns(), **more))
        self._unanswered = None
        self.figures.appended()
        if answer.cancelled and kind is ChunkType.CONTENT:
            raise CancelledByUserError

    def _add(self, kind: ChunkType, text: str, deltas: int, ts_ns: int, **more: Any) -> Chunk:
        """Add a chunk to the log, as one that the store has not answered for."""
        chunk = Chunk(self._next_index, kind, text, self.attempt, deltas, ts_ns, **more)
        self._next_index += 1
        self._log.append(chunk)
        self._unanswered = chunk
        return chunk

    def _hear_model(self, delta: Delta) -> asyncio.Future[None] | None:
        """Begin an append, or let the delta wait for the one under way; a future says when there is room for more."""
        self._note(delta)
        if not delta.text:
            return None
        self._pending.append(delta)
        self._waiting += len(delta.text)
        if self._unanswered is None and not self._is_leaving:
            self._send()
        elif self._waiting > WAITING_CHARACTERS:
            self._room = self._room or asyncio.get_running_loop().create_future()
        return self._room

    def _send(self) -> None:
        """Begin to append all that waits as one chunk."""
        pending, self._pending, self._waiting = self._pending, [], 0
        text = pending[0].text if len(pending) == 1 else "".join(delta.text for delta in pending)
        chunk = self._add(ChunkType.CONTENT, text, len(pending), pending[-1].ts_ns)
        _release(self._room)
        self._room = None
        if self._push is not None:
            self._push(chunk)
        else:
            self._settle_later(None)

    def _hear_store(self, answer: Answer | StoreUnavailableError) -> None:
        """End the append under way; a task settles anything but a plain success, and the first chunk of a stream."""
        if self._unanswered is None or self._group is None:
            return  # it was interrupted, and is stored again before the next
        if answer is STORED and self._unanswered.chunk_index:
            self._stored(self._unanswered)
        else:
            self._settle_later(answer)

    def _settle_later(self, answer: Answer | StoreUnavailableError | None) -> None:
        self._later(self._settle(answer))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None
        try:
            self._group.create_task(work, context=self._context)
        except RuntimeError:  # the attempt is coming to its end; what is unanswered is stored again before the next
            work.close()

    async def _settle(self, answer: Answer | StoreUnavailableError | None) -> None:
        """Bring the append under way to its end, from what the store has answered so far."""
        chunk = self._unanswered
        assert chunk is not None
        if isinstance(answer, Answer):
            await self._judge(answer)
        else:
            answer = await self._store(chunk)
        if not chunk.chunk_index:
            tracing.event("first_chunk")
        self._stored(chunk)
        if answer.cancelled:
            raise CancelledByUserError

    def _stored(self, chunk: Chunk) -> None:
        """Note that a content chunk is stored, and begin the next if text waits."""
        self._unanswered = None
        self.figures.said(chunk)
        if self._is_leaving and self._group is not None:
            self._move_later()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._pending and self._group is not None:
            self._send()
        else:
            _release(self._drained)

    def _move_later(self) -> None:
        self._later(self._move())

    async def _move(self) -> None:
        """Hand the stream over as asked."""
        try:
            await self._leave_for_good(HandOver.ASKED)
        except TimeoutError:
            log.warning("stream %s stays in %s: the database is away", self._task_id, self.backend)
        self._is_leaving = False
        self._go_on()

    async def _leave_for_good(self, reason: HandOver) -> None:
        """Hand the stream over, and wake its viewers where it was, so that they look where it is."""
        writer = self._writer
        await self.hand_over(reason)
        with contextlib.suppress(StoreUnavailableError):
            await writer.discard(self._task_id)

    async def _all_stored(self) -> None:
        if self._unanswered is not None or self._is_leaving:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def hand_over(self, reason: HandOver = HandOver.LOST) -> None:
        """Move the stream with its whole log to the safe backend."""
        why = "its store is lost" if reason is HandOver.LOST else "somebody asked for it"
        log.warning("handing stream %s over from %s: %s", self._task_id, self.backend, why)
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
        metrics.HANDOVERS.labels(self.backend, reason).inc()
        self._enter(SAFE, safe)
        self.figures.move(SAFE)
        logs.moved(SAFE)
        tracing.event("hand_over", chunks=len(self._log))

    async def _store(self, chunk: Chunk) -> Answer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HAND_OVER_AFTER_S
        while True:
            try:
                answer = await self._writer.append(self._task_id, chunk)
            except StoreUnavailableError:
                if self.backend in IN_ROWS:  # as safe as it gets
                    if loop.time() > deadline + self._place.patience_s:
                        raise
                elif loop.time() > deadline:
                    await self.hand_over()
                    return Answer(Outcome.OK)
                await asyncio.sleep(RETRY_S)
                continue
            await self._judge(answer)
            return answer

    def _renew(self) -> Awaitable[Answer]:
        return self._writer.renew(self._task_id, self.attempt)

    def _wait_cancel(self) -> Awaitable[None]:
        return self._writer.wait_cancel(self._task_id)

    async def _judge(self, answer: Answer) -> None:
        """Do what an answer asks for. Raises `FencedError`."""
        if answer.outcome is Outcome.DUPLICATE:
            metrics.DUPLICATE_APPENDS.labels(self.backend).inc()
        if answer.outcome in {Outcome.FENCED, Outcome.CLOSED}:
            raise FencedError
        if answer.outcome in {Outcome.MISSING, Outcome.GAP}:  # it restarted empty, or it is a replica that lagged
            await self._leave_for_good(HandOver.LOST)


def _release(waiting: asyncio.Future[None] | None) -> None:
    """Let who waits go on, if there is anybody who has not been cancelled meanwhile."""
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
