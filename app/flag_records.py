"""The generations of the flag document, and who made each: a log whose entries hold on to each other by hashes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from app.database import Database

LOCK = 0xF1A6
"""The advisory lock under which the document changes; any number that nobody else uses."""


class FlagMovedError(Exception):
    """Somebody else has changed the flag meanwhile; nothing was changed."""

    def __init__(self, generation: int) -> None:
        super().__init__(
            f"The flag is at generation {generation} by now: somebody else changed it, and nothing was changed. "
            "Look at `streamgauge flag history`, then say it again."
        )
        self.generation = generation


@dataclass(frozen=True, slots=True)
class Generation:
    """One document, and who put it in force, why and when; `hash` is None for one older than the log."""

    generation: int
    document: Mapping[str, Any]
    changed_by: str
    reason: str
    created_at: datetime
    hash: str | None

    def hash_after(self, before: str | None) -> str:
        """Give the SHA-256 of all of this together with the hash of the entry before."""
        said = [before, self.generation, self.document, self.changed_by, self.reason, self.created_at.isoformat()]
        return sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class FlagRecords:
    """The queries about the flag."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, known: int) -> tuple[int, str | None] | None:
        """Give the newest document's generation, with its JSON text unless `known` is that generation."""
        async with self._database.driver(counted=False) as connection:
            row = await connection.fetchrow(
                "SELECT generation, CASE WHEN generation <> $1 THEN document::text END AS document "
                "FROM flag_document ORDER BY generation DESC LIMIT 1",
                known,
            )
        return (row["generation"], row["document"]) if row else None

    async def add(
        self, document: Mapping[str, Any], *, by: str = "", reason: str = "", expected: int | None = None
    ) -> int:
        """Put a document in force; gives its generation.

        Raises `FlagMovedError` if the newest generation is not `expected`, 0 being none; None replaces whichever.
        """
        async with self._database.driver() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            last = await connection.fetchrow(_LAST)
            newest = last["generation"] if last else 0
            if expected not in {None, newest}:
                raise FlagMovedError(newest)
            row = await connection.fetchrow(_NEXT)
            made = Generation(row["generation"], document, by, reason, row["now"], None)
            await connection.execute(
                "INSERT INTO flag_document (generation, document, changed_by, reason, created_at, hash) "
                "VALUES ($1, $2::jsonb, $3, $4, $5, $6)",
                made.generation,
                json.dumps(document),
                by,
                reason,
                made.created_at,
                made.hash_after(last["hash"] if last else None),
            )
        return made.generation

    async def history(self) -> list[Generation]:
        """Give every generation, oldest first."""
        async with self._database.driver() as connection:
            rows = await connection.fetch(
                "SELECT generation, document::text, changed_by, reason, created_at, hash FROM flag_document ORDER BY 1"
            )
        return [Generation(**{**row, "document": json.loads(row["document"])}) for row in rows]

    async def live(self) -> dict[str, int]:
        """Count the messages that are being answered, by the backend of their stream."""
        async with self._database.driver() as connection:
            rows = await connection.fetch(_LIVE)
        return {row["backend"]: row["live"] for row in rows}


def broken_at(history: Sequence[Generation]) -> int | None:
    """Give the first generation that does not follow from the one before: it, or what came before, was changed.

    None when all do. A log that was cut off at its end, or replaced whole, can't be told from a shorter one.
    """
    before = None
    for entry in history:
        is_vouched_for = entry.hash is not None or before is not None
        if is_vouched_for and entry.hash != entry.hash_after(before):
            return entry.generation
        before = entry.hash
    return None


_LAST = "SELECT generation, hash FROM flag_document ORDER BY generation DESC LIMIT 1"
_NEXT = "SELECT nextval(pg_get_serial_sequence('flag_document', 'generation')) AS generation, clock_timestamp() AS now"
_LIVE = """
SELECT stream.backend, count(*) AS live FROM message JOIN stream ON stream.message_id = message.id
WHERE message.status = 'pending' GROUP BY stream.backend
"""
