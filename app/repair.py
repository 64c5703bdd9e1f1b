"""Ends what a producer could not end: a stream that lost its producer, a message whose log outlived the database.

A viewer reaps the stream it watches; `Repair` looks after those that nobody watches.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import StrEnum
from time import monotonic, time_ns
from typing import TypeVar
from uuid import UUID

from msgspec import UNSET, UnsetType

from app.broker import BrokerUnavailableError, Queue
from app.database import DataRefusedError
from app.records import Final, Pending, Records
from app.settings import Settings
from app.streaming.contract import OPEN, Chunk, ChunkType, Entry, Status, StoreUnavailableError, decode, text_of
from app.streaming.pairs import Backends
from app.telemetry import metrics

log = logging.getLogger(__name__)
T = TypeVar("T")

REDELIVERIES = 3
"""A message that has been pending for this many visibility timeouts is looked at: a redelivery takes about one."""
ALONE = 0x5EA1
"""The advisory lock under which one process repairs at a time; any number that nobody else uses."""
STATUSES = {ChunkType.DONE: "complete", ChunkType.FAILED: "failed", ChunkType.CANCELLED: "cancelled"}


class Finding(StrEnum):
    """What is the matter with a message that has been pending for long."""

    RUNNING = "running"
    """Nothing: its producer lives, or its store can't be asked."""
    COMPLETE = "complete"
    """Its log has its end, and the database does not know."""
    LOST = "lost"
    """Its producer is lost, and no viewer has said so."""
    GONE = "gone"
    """Neither its log nor its producer is left: who lives and finds no log moves to rows within seconds."""
    UNCLAIMED = "unclaimed"
    """No worker has taken it, and the queue is empty: a worker that was killed, or the broker, has lost its task."""


async def reap(settings: Settings, records: Records, backends: Backends, backend: str, task_id: UUID) -> bool:
    """End a stream whose lease ran out beyond the grace, and keep what it said; True for exactly one of many callers.

    Raises `StoreUnavailableError` or `DatabaseUnavailableError`; after the latter `Repair` finds a complete log.
    """
    reader = backends.readers[backend]
    chunk = Chunk(0, ChunkType.FAILED, "", 0, 0, time_ns(), code="producer_lost", retryable=True)
    if not await reader.reap(task_id, chunk, settings.lease_grace_s):
        return False
    log.warning("closed stream %s: its producer is lost", task_id)
    metrics.REAPED.labels(backend).inc()
    await records.mend(task_id, final_of(await reader.get_chunks(task_id), backend))
    return True


def final_of(entries: Sequence[Entry], backend: str) -> Final:
    """Read a message off its complete log: the text since the last reset, ended as the terminal says.

    A `failed/persist` with a finish reason ends an answer that was whole and could not be committed: it is complete.
    """
    chunks = [decode(entry.record) for entry in entries]
    end = chunks[-1]
    status = "complete" if end.finish_reason is not UNSET else STATUSES[end.chunk_type]
    has_failed = status == "failed"
    return Final(
        status,
        text_of(chunks).replace("\0", "\ufffd"),  # PostgreSQL holds no NUL
        finish_reason=_given(end.finish_reason),
        usage=_given(end.usage),
        timings=None,
        backend=backend,
        code=_given(end.code) if has_failed else None,
        retryable=_given(end.retryable) if has_failed else None,
    )


def _given(value: T | UnsetType) -> T | None:
    return None if value is UNSET else value


class Repair:
    """Finds messages that are pending for suspiciously long, and ends or enqueues those that nobody else will."""

    def __init__(self, settings: Settings, records: Records, backends: Backends, queue: Queue) -> None:
        self._settings, self._records, self._backends, self._queue = settings, records, backends, queue
        self._without_log = dict[tuple[UUID, int], float]()
        """Since when each attempt has been found without a log, as of the latest look."""

    async def look(self) -> Counter[Finding]:
        """Count what is found, and change nothing. Raises `DatabaseUnavailableError`."""
        return Counter([finding async for _, finding in self._found()])

    async def run(self) -> Counter[Finding]:
        """Mend all that is found; gives what was done: nothing while another process is at it.

        Raises `DatabaseUnavailableError`. Doing it again is harmless.
        """
        done = Counter[Finding]()
        async with self._records.alone(ALONE) as is_alone:
            if not is_alone:
                return done
            async for pending, finding in self._found():
                if finding is not Finding.RUNNING and await self._mend(pending, finding):
                    done[finding] += 1
                    metrics.MESSAGES_REPAIRED.labels(finding).inc()
        return done

    async def _found(self) -> AsyncIterator[tuple[Pending, Finding]]:
        suspicious_s = REDELIVERIES * self._settings.worker_visibility_s
        queue_is_empty = await self._queue_is_empty()
        before, self._without_log = self._without_log, {}
        page = await self._records.pending(suspicious_s, None)
        while page:
            for pending in page:
                if queue_is_empty and not pending.attempt:
                    yield pending, Finding.UNCLAIMED
                else:
                    yield pending, await self._examine(pending, before)
            page = await self._records.pending(suspicious_s, page[-1])

    async def _queue_is_empty(self) -> bool:
        try:
            return await self._queue.depth() == 0
        except BrokerUnavailableError:
            return False

    async def _examine(self, pending: Pending, before: Mapping[tuple[UUID, int], float]) -> Finding:
        reader = self._backends.readers.get(pending.backend)
        if reader is None:  # of another version of ours, which knows what to do
            return Finding.RUNNING
        try:
            status = await reader.status(pending.task_id)
        except StoreUnavailableError:
            return Finding.RUNNING
        if status is None:
            attempt = pending.task_id, pending.attempt
            since = self._without_log[attempt] = before.get(attempt, monotonic())
            return self._judge_without_log(pending, monotonic() - since)
        return self._judge(status)

    def _judge_without_log(self, pending: Pending, missing_s: float) -> Finding:
        is_lost = pending.attempt > 0 and missing_s > self._settings.lost_s
        return Finding.GONE if is_lost or pending.age_s > self._settings.chunk_ttl_s else Finding.RUNNING

    def _judge(self, status: Status) -> Finding:
        if status.state != OPEN:
            return Finding.COMPLETE
        return Finding.LOST if status.lease_left_s < -self._settings.lease_grace_s else Finding.RUNNING

    async def _mend(self, pending: Pending, finding: Finding) -> bool:
        task_id, backend = pending.task_id, pending.backend
        try:
            if finding is Finding.UNCLAIMED:
                log.warning("enqueueing task %s again: it was lost on its way to a worker", task_id)
                await self._queue.put(task_id)
                return True
            if finding is Finding.LOST:
                return await reap(self._settings, self._records, self._backends, backend, task_id)
            if finding is Finding.COMPLETE:
                entries = await self._backends.readers[backend].get_chunks(task_id)
                return bool(entries) and await self._records.mend(task_id, final_of(entries, backend))
            return await self._records.close_lost(task_id)
        except (StoreUnavailableError, BrokerUnavailableError):
            return False
        except DataRefusedError:  # which must not keep the others waiting
            log.exception("message of stream %s can't be mended", task_id)
            return False
