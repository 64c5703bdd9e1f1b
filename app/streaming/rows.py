"""What the backends share whose streams are rows in PostgreSQL: everything but how a viewer hears of a new row."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from app.database import Database, DatabaseUnavailableError
from app.settings import IN_ROWS, Settings
from app.streaming.appends import Announce, Appends
from app.streaming.cancels import CancelWatch
from app.streaming.contract import (
    OPEN,
    TERMINALS,
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
)

SQL = {path.stem: path.read_text() for path in (Path(__file__).parent / "sql").glob("*.sql")}
"""The statements by name; each is one transaction."""


def in_silence(_task_id: UUID, _chunk: Chunk) -> None:
    """Announce nothing: the viewers look by themselves."""


class RowWriter:
    """The producer's side over PostgreSQL: every step is one statement, hence one transaction."""

    def __init__(self, database: Database, lease_s: float, announce: Announce) -> None:
        self._database, self._lease_s, self._announce = database, lease_s, announce
        self._appends = Appends(database, SQL["append_many"], lease_s, announce, self._refusal)
        self._cancels = CancelWatch(database)

    @classmethod
    @contextlib.asynccontextmanager
    async def over(
        cls, database: Database, settings: Settings, announce: Announce = in_silence
    ) -> AsyncIterator["RowWriter"]:
        """Write through this process's pool for the length of the block."""
        writer = cls(database, settings.lease_s, announce)
        try:
            yield writer
        finally:
            await writer._appends.close()

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
            self._announce(task_id, chunk),
            *_columns(chunk),
        )
        if row:
            return Answer(Outcome.OK, row["cancel_requested"])
        return await self._refusal(task_id, chunk.attempt, chunk)

    def lane(self, task_id: UUID, attempt: int, heard: Heard) -> Callable[[Chunk], None]:  # noqa: ARG002 - in the chunk
        """Give a way to append content without waiting, in one statement with all other streams of this process."""
        return partial(self._appends.begin, task_id, heard=heard)

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
                    SQL["adopt"], task_id, attempt, next_index, last_reset, self._lease_s, state, IN_ROWS
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


class RowReader:
    """The viewer's side over PostgreSQL, but for how it follows."""

    announces = False
    """Whether those who listen are told of an end that a reaper writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
                    SQL["reap"],
                    task_id,
                    grace_s,
                    str(chunk.chunk_type),
                    chunk.ts_ns,
                    chunk.code,
                    chunk.retryable,
                    self.announces,
                )
        return bool(closed)


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
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
