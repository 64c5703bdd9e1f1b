"""Ends what a producer could not end: a stream that lost its producer, a message whose log outlived the database.

A viewer reaps the stream it watches; `Repair` looks after those that nobody watches.
"""

import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from time import time_ns
from uuid import UUID

from msgspec import UNSET

from app.records import Final, Pending, Records
from app.settings import Settings
from app.streaming.backends import Backends
from app.streaming.contract import OPEN, Chunk, ChunkType, Entry, Status, StoreUnavailableError, decode
from app.telemetry import metrics

log = logging.getLogger(__name__)

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
    """Neither its log nor, after all this time, its producer is left."""


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
    texts = list[str]()
    for entry in entries:
        chunk = decode(entry.record)
        texts = [] if chunk.chunk_type is ChunkType.RESET else [*texts, chunk.content]
    end = decode(entries[-1].record)
    status = "complete" if end.finish_reason is not UNSET else STATUSES[end.chunk_type]
    finish_reason = None if end.finish_reason is UNSET else end.finish_reason
    return Final(status, "".join(texts), finish_reason, None if end.usage is UNSET else end.usage, None, backend)


class Repair:
    """Finds messages that are pending for longer than lease and grace, and ends those that nobody else will."""

    def __init__(self, settings: Settings, records: Records, backends: Backends) -> None:
        self._settings, self._records, self._backends = settings, records, backends

    async def look(self) -> Counter[Finding]:
        """Count what is found, and change nothing. Raises `DatabaseUnavailableError`."""
        return Counter([finding async for _, finding in self._found()])

    async def run(self) -> Counter[Finding]:
        """End all that is found; gives what was done. Doing it again, or at once elsewhere, is harmless."""
        done = Counter[Finding]()
        async for pending, finding in self._found():
            if finding is not Finding.RUNNING and await self._end(pending, finding):
                done[finding] += 1
                metrics.MESSAGES_REPAIRED.labels(finding).inc()
        return done

    async def _found(self) -> AsyncIterator[tuple[Pending, Finding]]:
        patience_s = self._settings.lease_s + self._settings.lease_grace_s
        page = await self._records.pending(patience_s, None)
        while page:
            for pending in page:
                try:
                    status = await self._backends.readers[pending.backend].status(pending.task_id)
                except StoreUnavailableError:
                    yield pending, Finding.RUNNING
                else:
                    yield pending, self._judge(pending, status)
            page = await self._records.pending(patience_s, page[-1])

    def _judge(self, pending: Pending, status: Status | None) -> Finding:
        if status is None:
            return Finding.GONE if pending.age_s > self._settings.chunk_ttl_s else Finding.RUNNING
        if status.state != OPEN:
            return Finding.COMPLETE
        return Finding.LOST if status.lease_left_s < -self._settings.lease_grace_s else Finding.RUNNING

    async def _end(self, pending: Pending, finding: Finding) -> bool:
        task_id, backend = pending.task_id, pending.backend
        try:
            if finding is Finding.LOST:
                return await reap(self._settings, self._records, self._backends, backend, task_id)
            if finding is Finding.COMPLETE:
                entries = await self._backends.readers[backend].get_chunks(task_id)
                return bool(entries) and await self._records.mend(task_id, final_of(entries, backend))
            return await self._records.close_lost(task_id)
        except StoreUnavailableError:
            return False
