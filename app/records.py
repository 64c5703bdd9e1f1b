"""Every query that is not a stream's own log: conversations, messages, and the streams they pin."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import col, select

from app.database import Database
from app.tables import Conversation, FlagDocument, Message, Stream


@dataclass(frozen=True, slots=True)
class Posted:
    """What a POST made: a question, its pending answer, and the answer's stream."""

    task_id: UUID
    message_id: UUID
    question_id: UUID


@dataclass(frozen=True, slots=True)
class Final:
    """What the final commit writes into the message."""

    status: str
    content: str
    finish_reason: str | None
    usage: dict[str, int] | None
    timings: Mapping[str, int | None] | None
    backend: str


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to answer one message."""

    task_id: UUID
    backend: str
    model: str
    max_tokens: int | None
    posted_ns: int
    history: tuple[tuple[str, str], ...]
    """(role, content) of every earlier turn that is complete, oldest first, ending with the question."""
    committed: Final | None
    """The answer, if an earlier attempt committed it and could not end its stream."""


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a stream lives, and what its message holds by now."""

    backend: str
    state: str
    message: Message


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that has no end yet, and where its stream is pinned."""

    task_id: UUID
    backend: str
    attempt: int
    created_at: datetime
    age_s: float


class Records:
    """The queries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_conversation(self, title: str | None) -> Conversation:
        """Store a new conversation."""
        conversation = Conversation(title=title)
        async with self._database.transaction() as connection:
            await connection.execute(sa.insert(Conversation).values(conversation.model_dump()))
        return conversation

    async def conversation(self, conversation_id: UUID) -> tuple[Conversation, Sequence[Message]] | None:
        """Give a conversation with its messages in order, or None."""
        async with self._database.transaction() as connection:
            found = (
                await connection.execute(select(Conversation).where(col(Conversation.id) == conversation_id))
            ).one_or_none()
            if found is None:
                return None
            messages = await connection.execute(
                select(Message).where(col(Message.conversation_id) == conversation_id).order_by(col(Message.seq))
            )
        return Conversation(**found._mapping), [Message(**row._mapping) for row in messages]

    async def post(
        self,
        conversation_id: UUID,
        content: str,
        model: str,
        max_tokens: int | None,
        backend: str,
        patience_s: float,
    ) -> Posted | None:
        """Store a question, its pending answer and the answer's pinned stream; None for an unknown conversation."""
        posted = Posted(task_id=uuid4(), message_id=uuid4(), question_id=uuid4())
        async with self._database.driver() as connection:
            made = await connection.fetchval(
                _POST,
                conversation_id,
                posted.question_id,
                content,
                posted.message_id,
                posted.task_id,
                model,
                max_tokens,
                backend,
                patience_s,
            )
        return posted if made else None

    async def discard(self, posted: Posted) -> None:
        """Undo `post`, for a message whose task could not be enqueued."""
        async with self._database.driver() as connection:
            await connection.execute("DELETE FROM message WHERE id IN ($1, $2)", posted.message_id, posted.question_id)

    async def job(self, task_id: UUID) -> Job | None:
        """Give what a worker needs to answer, or None when the message was discarded."""
        async with self._database.driver() as connection:
            rows = await connection.fetch(_JOB, task_id)
        if not rows:
            return None
        answer = rows[-1]
        return Job(
            task_id=task_id,
            backend=answer["pin"],
            model=answer["model"],
            max_tokens=answer["max_tokens"],
            posted_ns=int(answer["created_at"].timestamp() * 1_000_000) * 1000,
            history=tuple((row["role"], row["content"]) for row in rows[:-1] if row["status"] == "complete"),
            committed=_committed(answer),
        )

    async def pin(self, task_id: UUID) -> Pin | None:
        """Give where a stream lives, or None for an unknown one."""
        async with self._database.transaction() as connection:
            statement: Any = sa.select(col(Stream.backend).label("pin"), col(Stream.state), Message).join(Message)
            row = (await connection.execute(statement.where(col(Stream.task_id) == task_id))).one_or_none()
        if row is None:
            return None
        fields = dict(row._mapping)
        return Pin(backend=fields.pop("pin"), state=fields.pop("state"), message=Message(**fields))

    async def note_attempt(self, task_id: UUID, attempt: int) -> None:
        """Remember the newest attempt of a stream whose state lives elsewhere, so that a hand-over can be fenced."""
        async with self._database.driver() as connection:
            await connection.execute(
                "UPDATE stream SET attempt = GREATEST(attempt, $2) WHERE task_id = $1", task_id, attempt
            )

    async def commit(self, task_id: UUID, attempt: int, final: Final) -> bool:
        """Write the finished answer, unless a newer attempt or the message's end came first: then False.

        Its stream ends after this, so who sees the end can read the message. Doing it again is harmless.
        """
        newest = sa.exists().where(col(Stream.task_id) == task_id, col(Stream.attempt) == attempt)
        same = sa.and_(col(Message.status) == final.status, col(Message.content) == final.content)
        statement = sa.update(Message).where(
            col(Message.task_id) == task_id, newest, sa.or_(col(Message.status) == "pending", same)
        )
        async with self._database.transaction() as connection:
            done = await connection.execute(
                statement.values(
                    status=final.status,
                    content=final.content,
                    finish_reason=final.finish_reason,
                    usage=final.usage,
                    timings=dict(final.timings or {}),
                    backend=final.backend,
                )
            )
        return bool(done.rowcount)

    async def close(self, task_id: UUID, state: str) -> None:
        """Note the end of a stream whose state lives elsewhere, so that live streams can be counted here."""
        async with self._database.driver() as connection:
            await connection.execute("UPDATE stream SET state = $2 WHERE task_id = $1", task_id, state)

    @contextlib.asynccontextmanager
    async def alone(self, lock: int) -> AsyncIterator[bool]:
        """Tell whether nobody else is in a block with this lock; it holds a connection for the length of the block."""
        async with self._database.driver() as connection:
            is_alone = bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock))
            try:
                yield is_alone
            finally:
                if is_alone:
                    await connection.execute("SELECT pg_advisory_unlock($1)", lock)

    async def pending(self, older_than_s: float, after: Pending | None) -> list[Pending]:
        """Give a page of messages that are pending for longer than this, oldest first, beginning `after` one."""
        place = (after.created_at, after.task_id) if after else (None, None)
        async with self._database.driver() as connection:
            return [Pending(**row) for row in await connection.fetch(_PENDING, older_than_s, *place)]

    async def mend(self, task_id: UUID, final: Final) -> bool:
        """Write a message off its closed log and note the stream's end; False when it was committed after all."""
        state = {"complete": "done"}.get(final.status, final.status)
        usage = None if final.usage is None else json.dumps(final.usage)
        async with self._database.driver() as connection:
            return bool(
                await connection.fetchval(
                    _MEND, task_id, final.status, final.content, final.finish_reason, usage, final.backend, state
                )
            )

    async def close_lost(self, task_id: UUID) -> bool:
        """End a stream whose store and producer are both lost; True for exactly one of many callers.

        A producer that lives after all finds itself fenced. One that no worker has taken yet keeps its patience.
        """
        async with self._database.driver() as connection:
            return bool(await connection.fetchval(_CLOSE_LOST, task_id))

    async def delete_expired_chunks(self, ttl_s: float) -> int:
        """Delete the log of every stream that ended longer ago than the TTL; gives the number of rows."""
        async with self._database.driver() as connection:
            tag = await connection.execute(_EXPIRE, ttl_s)
        return int(tag.rsplit(" ", 1)[-1])

    async def newest_flag(self, known: int) -> tuple[int, str | None] | None:
        """Give the newest flag document's generation, with its JSON text unless `known` is that generation."""
        async with self._database.driver() as connection:
            row = await connection.fetchrow(
                "SELECT generation, CASE WHEN generation <> $1 THEN document::text END AS document "
                "FROM flag_document ORDER BY generation DESC LIMIT 1",
                known,
            )
        return (row["generation"], row["document"]) if row else None

    async def add_flag(self, document: dict[str, Any]) -> int:
        """Put a flag document in force; gives its generation."""
        async with self._database.transaction() as connection:
            statement: Any = sa.insert(FlagDocument).values(document=document).returning(sa.column("generation"))
            generation: int = (await connection.execute(statement)).scalar_one()
        return generation


def _committed(answer: Any) -> Final | None:
    if answer["status"] == "pending":
        return None
    usage = json.loads(answer["usage"]) if answer["usage"] else None
    return Final(answer["status"], answer["content"], answer["finish_reason"], usage, None, answer["pin"])


_POST = """
WITH talk AS (SELECT id FROM conversation WHERE id = $1),
question AS (
    INSERT INTO message (id, conversation_id, role, content, status, created_at)
    SELECT $2, id, 'user', $3, 'complete', clock_timestamp() FROM talk RETURNING seq),
answer AS (
    INSERT INTO message (id, conversation_id, role, content, status, task_id, model, max_tokens, backend, created_at)
    SELECT $4::uuid, talk.id, 'assistant', '', 'pending', $5::uuid, $6, $7, $8, clock_timestamp()
    FROM talk, question  -- after the question, so that it is numbered after it
    RETURNING id, task_id)
INSERT INTO stream (task_id, message_id, backend, state, attempt, next_index, last_reset, cancel_requested,
                    lease_until, created_at)
SELECT task_id, id, $8, 'open', 0, 0, 0, false, now() + make_interval(secs => $9), now() FROM answer
RETURNING true
"""
_JOB = """
SELECT turn.role, turn.content, turn.status, turn.model, turn.max_tokens, turn.created_at, stream.backend AS pin,
       turn.finish_reason, turn.usage::text AS usage
FROM stream
JOIN message AS answer ON answer.id = stream.message_id
JOIN message AS turn ON turn.conversation_id = answer.conversation_id AND turn.seq <= answer.seq
WHERE stream.task_id = $1 ORDER BY turn.seq
"""
_CLOSE_LOST = """
WITH closed AS (
    UPDATE stream SET state = 'failed'
    WHERE task_id = $1 AND state = 'open' AND backend <> 'polling' AND (attempt > 0 OR lease_until < now())
    RETURNING task_id)
UPDATE message SET status = 'failed' FROM closed
WHERE message.task_id = closed.task_id AND message.status = 'pending' RETURNING true
"""
_PENDING = """
SELECT stream.task_id, stream.backend, stream.attempt, stream.created_at,
       extract(epoch FROM now() - stream.created_at)::float8 AS age_s
FROM message JOIN stream ON stream.message_id = message.id
WHERE message.status = 'pending' AND stream.created_at < now() - make_interval(secs => $1)
  AND ($2::timestamptz IS NULL OR (stream.created_at, stream.task_id) > ($2, $3::uuid))
ORDER BY stream.created_at, stream.task_id LIMIT 500
"""
_MEND = """
WITH mended AS (
    UPDATE message SET status = $2, content = $3, finish_reason = $4, usage = $5::jsonb, backend = $6
    WHERE task_id = $1 AND status = 'pending' RETURNING task_id)
UPDATE stream SET state = $7 FROM mended WHERE stream.task_id = mended.task_id RETURNING true
"""
_EXPIRE = """
DELETE FROM stream_chunk USING stream
WHERE stream_chunk.task_id = stream.task_id
  AND stream.created_at < now() - make_interval(secs => $1)
  AND stream.lease_until < now() - make_interval(secs => $1)
"""
