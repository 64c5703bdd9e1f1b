"""The `polling` backend: rows in PostgreSQL that every reader selects anew, every 100 ms by default."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from app.database import Database, DatabaseUnavailableError
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
    StoreUnavailableError,
    StreamMissingError,
    StreamOverError,
    decline,
    encode,
)

SQL = {path.stem: path.read_text() for path in (Path(__file__).parent / "sql").glob("*.sql")}
"""The statements by name; each is one transaction."""
CANCEL_POLL_S = 0.5
"""How often a producer's process asks, in one query for all its streams, whether somebody wants one cancelled."""


@dataclass(frozen=True, slots=True)
class PollingTimes:
    """Seconds that matter to this backend; the settings of the same names."""

    polling_interval_s: float
    lease_s: float
    silence_s: float


class PollingWriter:
    """The producer's side over PostgreSQL: every step is one statement, hence one transaction."""

    def __init__(self, database: Database, times: PollingTimes) -> None:
        self._database, self._lease_s = database, times.lease_s
        self._cancels = CancelWatch(database)

    async def create(self, task_id: UUID) -> None:
        """The stream's row was made with its message: there is nothing more to make."""

    async def discard(self, task_id: UUID) -> None:
        """The stream's row goes with its message."""

    async def open(self, task_id: UUID, attempt: int) -> Opening:
        """Begin this attempt, fencing all earlier ones; its claim has counted it in this very row."""
        row = await self._row(SQL["open"], task_id, attempt, self._lease_s)
        if row is not None:
            return Opening(attempt, row["next_index"])
        found = await self._row("SELECT state, attempt FROM stream WHERE task_id = $1", task_id)
        if found is None:
            raise StreamMissingError(f"stream {task_id} is not in the database")
        if found["state"] != OPEN:
            raise StreamOverError(f"stream {task_id} already ended: {found['state']}")
        raise FencedError(f"attempt {found['attempt']} at stream {task_id} has begun")

    async def append(self, task_id: UUID, chunk: Chunk) -> Answer:
        """Insert one row, move the index, renew the lease and set the end state: all or nothing."""
        state = chunk.chunk_type if chunk.chunk_type in TERMINALS else OPEN
        row = await self._row(
            SQL["append"],
            task_id,
            chunk.attempt,
            chunk.chunk_index,
            self._lease_s,
            str(state),
            chunk.chunk_type == ChunkType.RESET,
            *_columns(chunk),
        )
        if row:
            return Answer(Outcome.OK, row["cancel_requested"])
        return await self._refusal(task_id, chunk.attempt, chunk)

    async def adopt(self, task_id: UUID, attempt: int, log: Sequence[Chunk]) -> bool:
        """Take a whole log over from a backend that was lost, and move the pin here; False when fenced.

        `attempt` must be the newest that was claimed. Doing it again is harmless.
        """
        next_index = log[-1].chunk_index + 1 if log else 0
        state = next((str(c.chunk_type) for c in log if c.chunk_type in TERMINALS), OPEN)
        last_reset = max((c.chunk_index for c in log if c.chunk_type == ChunkType.RESET), default=0)
        rows = [(task_id, chunk.chunk_index, chunk.attempt, *_columns(chunk)) for chunk in log]
        with _store_errors():
            async with self._database.driver() as connection, connection.transaction():
                moved = await connection.fetchval(
                    SQL["adopt"], task_id, attempt, next_index, last_reset, self._lease_s, state
                )
                if moved:
                    await connection.executemany(SQL["insert"], rows)
                else:  # the reply to an earlier try may have been lost
                    moved = await connection.fetchval(SQL["adopted"], task_id, attempt, next_index)
        return bool(moved)

    async def renew(self, task_id: UUID, attempt: int) -> Answer:
        """Renew the producer's lease without a chunk."""
        row = await self._row(SQL["renew"], task_id, attempt, self._lease_s)
        return Answer(Outcome.OK, row["cancel_requested"]) if row else await self._refusal(task_id, attempt)

    async def wait_cancel(self, task_id: UUID) -> None:
        """Return once somebody asked to cancel this stream."""
        await self._cancels.wait(task_id)

    async def cancel(self, task_id: UUID) -> str:
        """Ask the producer to stop; answers the stream's state."""
        row = await self._row(
            "UPDATE stream SET cancel_requested = cancel_requested OR state = 'open' WHERE task_id = $1 "
            "RETURNING state",
            task_id,
        )
        if row is None:
            raise StreamMissingError(f"stream {task_id} is not in the database")
        return str(row["state"])

    async def _refusal(self, task_id: UUID, attempt: int, chunk: Chunk | None = None) -> Answer:
        """Say why the store refused an append of this chunk, or a renewal."""
        row = await self._row(
            "SELECT state, attempt, next_index, cancel_requested FROM stream WHERE task_id = $1", task_id
        )
        if row is None:
            return Answer(Outcome.MISSING)
        if row["attempt"] != attempt:
            outcome = Outcome.FENCED
        elif chunk is not None and chunk.chunk_index < row["next_index"]:
            reaped = row["state"] not in {OPEN, chunk.chunk_type} and chunk.chunk_index == row["next_index"] - 1
            outcome = Outcome.CLOSED if reaped else Outcome.DUPLICATE
        else:
            outcome = Outcome.GAP if row["state"] == OPEN else Outcome.CLOSED
        return Answer(outcome, row["cancel_requested"])

    async def _row(self, statement: str, *args: Any) -> Any:
        with _store_errors():
            async with self._database.driver() as connection:
                return await connection.fetchrow(statement, *args)


class PollingReader:
    """The viewer's side over PostgreSQL: one indexed range of new rows a poll."""

    def __init__(self, database: Database, times: PollingTimes) -> None:
        self._database, self._times = database, times

    async def follow(
        self,
        task_id: UUID,
        start: int,
        offer: Offer = decline,  # noqa: ARG002 - the contract's; nothing is pushed here
    ) -> AsyncGenerator[list[Entry], None]:
        """Yield batches of entries from `start` on, and an empty batch after every silence.

        The first look is at once; the phase of the following ones is random, so that readers do not march in step.
        """
        position = start
        if (entries := await self._checked(task_id, position)) is None:
            return
        yield entries
        heard = monotonic()
        pause = random.uniform(0, self._times.polling_interval_s)  # noqa: S311 - spreads load, guards nothing
        while not (entries and entries[-1].is_terminal):
            if entries:
                position, heard = entries[-1].index + 1, monotonic()
            await asyncio.sleep(pause)
            pause = self._times.polling_interval_s
            entries = await self.get_chunks(task_id, position)
            if not entries and monotonic() - heard >= self._times.silence_s:
                if (checked := await self._checked(task_id, position)) is None:
                    return
                yield (entries := checked)
                heard = monotonic()
            elif entries:
                yield entries

    async def _checked(self, task_id: UUID, position: int) -> list[Entry] | None:
        """What follows `position`, having made sure that stream and log still exist; None if it ended before that."""
        status = await self.status(task_id)
        entries = await self.get_chunks(task_id, position)
        if status is None or not status.explains(position, entries):
            raise StreamMissingError(f"stream {task_id} is not in the database")
        return None if status.ended_before(position) else entries

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on."""
        with _store_errors():
            async with self._database.driver() as connection:
                return [_entry(row) for row in await connection.fetch(SQL["read"], task_id, start)]

    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state, or None for an unknown one."""
        with _store_errors():
            async with self._database.driver() as connection:
                row = await connection.fetchrow(SQL["status"], task_id)
        return Status(**row) if row else None

    async def reap(self, task_id: UUID, chunk: Chunk, grace_s: float) -> bool:
        """Close a stream whose lease ran out more than `grace_s` ago; True for exactly one caller."""
        with _store_errors():
            async with self._database.driver() as connection:
                closed = await connection.fetchval(
                    SQL["reap"], task_id, grace_s, str(chunk.chunk_type), chunk.ts_ns, chunk.code, chunk.retryable
                )
        return bool(closed)


class CancelWatch:
    """Waits for cancel marks on behalf of all streams of this process, with one query for all of them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self._polling: asyncio.Task[None] | None = None

    async def wait(self, task_id: UUID) -> None:
        """Return once the stream's cancel mark is set."""
        event = asyncio.Event()
        self._waiting.setdefault(task_id, set()).add(event)
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            await event.wait()
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]
            if not self._waiting and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        while True:
            with contextlib.suppress(DatabaseUnavailableError):
                async with self._database.driver() as connection:
                    marked = await connection.fetch(
                        "SELECT task_id FROM stream WHERE task_id = ANY($1) AND cancel_requested",
                        list(self._waiting),
                    )
                for row in marked:
                    for event in self._waiting.get(row["task_id"], ()):
                        event.set()
            await asyncio.sleep(CANCEL_POLL_S)


@contextlib.contextmanager
def _store_errors() -> Any:
    try:
        yield
    except DatabaseUnavailableError as error:
        raise StoreUnavailableError(str(error)) from error


def _columns(chunk: Chunk) -> tuple[Any, ...]:
    usage = None if chunk.usage is UNSET or chunk.usage is None else msgspec.json.encode(chunk.usage).decode()
    rest = (None if value is UNSET else value for value in (chunk.finish_reason, chunk.code, chunk.retryable))
    return (str(chunk.chunk_type), chunk.content, chunk.deltas, chunk.ts_ns, usage, *rest)


def _entry(row: Any) -> Entry:
    kind = ChunkType(row["chunk_type"])
    whole = kind is ChunkType.DONE or row["finish_reason"]
    failed = kind is ChunkType.FAILED
    usage = msgspec.json.decode(row["usage"]) if row["usage"] else None
    chunk = Chunk(
        chunk_index=row["chunk_index"],
        chunk_type=kind,
        content=row["content"],
        attempt=row["attempt"],
        deltas=row["deltas"],
        ts_ns=row["ts_ns"],
        finish_reason=row["finish_reason"] or UNSET,
        usage=usage if whole else UNSET,
        code=row["code"] if failed else UNSET,
        retryable=row["retryable"] if failed else UNSET,
    )
    return Entry(chunk.chunk_index, kind, chunk.ts_ns, encode(chunk))


@contextlib.asynccontextmanager
async def open_polling(database: Database, times: PollingTimes) -> AsyncIterator[tuple[PollingWriter, PollingReader]]:
    """Pair a writer and a reader over this process's database pool."""
    yield PollingWriter(database, times), PollingReader(database, times)
