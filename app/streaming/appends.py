"""Content appended to rows in PostgreSQL, that of all streams of a process in one statement at a time.

A commit costs the same for one row as for hundreds. What comes while one is under way goes with the next: alone a chunk
waits for nothing, and the more there are, the less each costs.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from app.database import Database, DatabaseError
from app.streaming.contract import STORED, Answer, Chunk, Heard, Outcome, StoreUnavailableError

log = logging.getLogger(__name__)

Announce = Callable[[UUID, Chunk], str | None]
"""Says what those who listen for a chunk are told in the transaction that stores it, if anything."""
Explain = Callable[[UUID, int, Chunk], Awaitable[Answer]]
"""Says why an attempt's chunk was refused. Raises `StoreUnavailableError`."""
Batch = dict[UUID, tuple[Chunk, Heard]]
CANCELLED = Answer(Outcome.OK, cancelled=True)
CLOSED = StoreUnavailableError("this process closed its connections; the chunk may or may not be stored")


class Appends:
    """Appends content chunks without waiting: one at a time of each stream, all streams together."""

    def __init__(
        self, database: Database, statement: str, lease_s: float, announce: Announce, explain: Explain
    ) -> None:
        self._database, self._statement, self._lease_s = database, statement, lease_s
        self._announce, self._explain = announce, explain
        self._waiting: Batch = {}
        self._sending: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop, and tell who still waits."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    def begin(self, task_id: UUID, chunk: Chunk, heard: Heard) -> None:
        """Append a chunk; `heard` gets the answer to it."""
        self._waiting[task_id] = (chunk, heard)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        batch: Batch = {}
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                try:
                    stored = await self._store(batch)
                except DatabaseError as error:
                    _tell(batch, dict.fromkeys(batch, StoreUnavailableError(str(error))).__getitem__)
                    continue
                refused = {task_id: batch.pop(task_id) for task_id in batch.keys() - stored.keys()}
                _tell(batch, stored.__getitem__)
                batch = refused
                answers = {task_id: await self._why(task_id, chunk) for task_id, (chunk, _) in refused.items()}
                _tell(batch, answers.__getitem__)
        finally:
            self._sending = None
            _tell(batch, lambda _: CLOSED)
            _tell(self._waiting, lambda _: CLOSED)

    async def _why(self, task_id: UUID, chunk: Chunk) -> Answer | StoreUnavailableError:
        try:
            return await self._explain(task_id, chunk.attempt, chunk)
        except StoreUnavailableError as error:
            return error

    async def _store(self, batch: Batch) -> dict[UUID, Answer]:
        """Store what can be stored, and give the answers to that."""
        chunks = [chunk for chunk, _ in batch.values()]
        async with self._database.driver() as connection:
            rows = await connection.fetch(
                self._statement,
                list(batch),
                [chunk.attempt for chunk in chunks],
                [chunk.chunk_index for chunk in chunks],
                [chunk.content for chunk in chunks],
                [chunk.deltas for chunk in chunks],
                [chunk.ts_ns for chunk in chunks],
                [self._announce(task_id, chunk) for task_id, (chunk, _) in batch.items()],
                self._lease_s,
            )
        return {row["task_id"]: CANCELLED if row["cancel_requested"] else STORED for row in rows}


def _tell(batch: Batch, answer: Callable[[UUID], Answer | StoreUnavailableError]) -> None:
    """Call everybody back, once; whoever fails at that costs nobody else anything."""
    while batch:
        task_id, (_, heard) = batch.popitem()
        try:
            heard(answer(task_id))
        except Exception:
            log.exception("whoever appended to stream %s failed to hear the answer", task_id)
