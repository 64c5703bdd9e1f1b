"""Every query that is neither a stream's own log nor the flag's: conversations, messages, and the streams they pin."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import col, select

from app import statements
from app.database import Database
from app.settings import IN_ROWS
from app.tables import Conversation, Message


@dataclass(frozen=True, slots=True)
class Posted:
    """What a POST made: a question, its pending answer, and the answer's stream."""

    task_id: UUID
    message_id: UUID
    question_id: UUID


class StaleFlagError(Exception):
    """A newer flag document is in force than the one a message's backend was chosen by; nothing was stored.

    `document` is its JSON text, None when there is no document any more.
    """

    def __init__(self, generation: int, document: str | None) -> None:
        super().__init__(f"the flag's generation is {generation} by now")
        self.generation, self.document = generation, document


@dataclass(frozen=True, slots=True)
class Final:
    """What the final commit writes into the message."""

    status: str
    content: str
    finish_reason: str | None
    usage: dict[str, int] | None
    timings: Mapping[str, int | None] | None
    backend: str
    code: str | None = None
    """How it failed, and whether asking again may help: of an answer that did."""
    retryable: bool | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A worker's claim on a message: the attempt that is now its own, and what it needs to answer."""

    task_id: UUID
    message_id: UUID
    conversation_id: UUID
    attempt: int
    backend: str
    state: str
    """The stream's, as the database knows it: not `open` once the message is committed."""
    model: str
    max_tokens: int | None
    posted_ns: int
    history: tuple[tuple[str, str], ...]
    """(role, content) of every earlier turn that is complete, oldest first, ending with the question."""
    committed: Final | None
    """The answer, if an earlier attempt committed it and could not end its stream."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a message holds by now; `status` is `pending` until its end, and `usage` its tokens by kind."""

    status: str
    content: str
    finish_reason: str | None
    usage: dict[str, int] | None
    code: str | None
    retryable: bool | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a stream lives, and what its message holds. Each open view keeps one: it is small."""

    backend: str
    state: str
    message_id: UUID
    message: Told


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that has no end yet, and where its stream is pinned."""

    task_id: UUID
    backend: str
    attempt: int
    created_at: datetime
    age_s: float


class Records:
    """The queries. Given an `owner`, one finds nothing of anybody else's; with None it asks on nobody's behalf."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claims = asyncio.Semaphore(max(1, database.size // 2))

    async def add_conversation(self, title: str | None, owner: str | None = None) -> Conversation:
        """Store a new conversation."""
        conversation = Conversation(title=title, owner=owner)
        async with self._database.driver() as connection:
            await connection.execute(
                "INSERT INTO conversation (id, title, owner, created_at) VALUES ($1, $2, $3, $4)",
                conversation.id,
                conversation.title,
                conversation.owner,
                conversation.created_at,
            )
        return conversation

    async def conversation(
        self, conversation_id: UUID, owner: str | None = None
    ) -> tuple[Conversation, Sequence[Message]] | None:
        """Give a conversation with its messages in order, or None."""
        wanted = select(Conversation).where(col(Conversation.id) == conversation_id)
        if owner is not None:
            wanted = wanted.where(col(Conversation.owner) == owner)
        async with self._database.transaction() as connection:
            found = (await connection.execute(wanted)).one_or_none()
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
        generation: int | None = None,
        owner: str | None = None,
    ) -> Posted | None:
        """Store a question, its pending answer and the answer's pinned stream; None for an unknown conversation.

        All in one statement, which also holds `generation`, that of the flag which chose the backend, against the
        newest: raises `StaleFlagError` if that is another. None chooses without a flag.
        """
        posted = Posted(task_id=uuid4(), message_id=uuid4(), question_id=uuid4())
        async with self._database.driver() as connection:
            found = await connection.fetchrow(
                statements.POST,
                conversation_id,
                posted.question_id,
                content,
                posted.message_id,
                posted.task_id,
                model,
                max_tokens,
                backend,
                patience_s,
                generation,
                owner,
            )
        if found["newer"] is not None:
            raise StaleFlagError(found["newer"], found["document"])
        return posted if found["made"] else None

    async def discard(self, posted: Posted) -> None:
        """Undo `post`, for a message whose task could not be enqueued."""
        async with self._database.driver() as connection:
            await connection.execute("DELETE FROM message WHERE id IN ($1, $2)", posted.message_id, posted.question_id)

    async def claim(self, task_id: UUID) -> Job | None:
        """Take the next attempt at a message; None when there is nothing to do: it was discarded, or has its end.

        From now on no earlier attempt can commit or hand over. Raises `DatabaseUnavailableError`; an attempt that was
        taken without an answer is simply skipped. Claims have half of the pool: a burst of them, which can wait as well
        as it could in the queue, holds up no commit.
        """
        async with self._claims, self._database.driver() as connection:
            rows = await connection.fetch(statements.CLAIM, task_id, IN_ROWS)
        if not rows:
            return None
        answer = rows[-1]
        return Job(
            task_id=task_id,
            message_id=answer["id"],
            conversation_id=answer["conversation_id"],
            attempt=answer["attempt"],
            backend=answer["pin"],
            state=answer["state"],
            model=answer["model"],
            max_tokens=answer["max_tokens"],
            posted_ns=int(answer["created_at"].timestamp() * 1_000_000) * 1000,
            history=tuple((row["role"], row["content"]) for row in rows[:-1] if row["status"] == "complete"),
            committed=_committed(answer),
        )

    async def pin(self, task_id: UUID, owner: str | None = None) -> Pin | None:
        """Give where a stream lives, or None for an unknown one."""
        async with self._database.driver() as connection:
            row = await connection.fetchrow(statements.PIN, task_id, owner)
        if row is None:
            return None
        fields = dict(row)
        usage = json.loads(fields.pop("usage") or "null")
        return Pin(fields.pop("backend"), fields.pop("state"), fields.pop("id"), Told(usage=usage, **fields))

    async def commit(self, task_id: UUID, attempt: int, final: Final) -> bool:
        """Write the finished answer, unless a newer attempt or the message's end came first: then False.

        Its stream ends after this, so who sees the end can read the message; the same statement notes that end for a
        stream whose state lives elsewhere. Doing it again is harmless.
        """
        timings = json.dumps(dict(final.timings or {}))
        async with self._database.driver() as connection:
            return bool(
                await connection.fetchval(statements.COMMIT, task_id, *_columns(final), attempt, timings, IN_ROWS)
            )

    @contextlib.asynccontextmanager
    async def alone(self, lock: int) -> AsyncIterator[bool]:
        """Tell whether nobody else is in a block with this lock; it holds a connection for the length of the block.

        The lock is a transaction's, since behind a pooler the session is somebody else's from the next statement on.
        """
        async with self._database.driver() as connection, connection.transaction():
            # Without arguments, hence without a portal: an open one keeps its snapshot, and that holds vacuum up.
            yield await connection.execute(f"SELECT WHERE pg_try_advisory_xact_lock({lock:d})") == "SELECT 1"

    async def pending(self, older_than_s: float, after: Pending | None) -> list[Pending]:
        """Give a page of messages that are pending for longer than this, oldest first, beginning `after` one."""
        place = (after.created_at, after.task_id) if after else (None, None)
        async with self._database.driver() as connection:
            return [Pending(**row) for row in await connection.fetch(statements.PENDING, older_than_s, *place)]

    async def mend(self, task_id: UUID, final: Final) -> bool:
        """Write a message off its closed log and note the stream's end; False when it was committed after all.

        A producer that lives after all finds itself fenced.
        """
        async with self._database.driver() as connection:
            return bool(await connection.fetchval(statements.MEND, task_id, *_columns(final)))

    async def close_lost(self, task_id: UUID) -> bool:
        """End a stream whose store and producer are both lost; True for exactly one of many callers.

        A producer that lives after all finds itself fenced. One that no worker has taken yet keeps its patience.
        """
        async with self._database.driver() as connection:
            return bool(await connection.fetchval(statements.CLOSE_LOST, task_id, IN_ROWS))

    async def delete_expired_chunks(self, ttl_s: float) -> int:
        """Delete the log of every stream that ended longer ago than the TTL; gives the number of rows."""
        async with self._database.driver() as connection:
            tag = await connection.execute(statements.EXPIRE, ttl_s)
        return int(tag.rsplit(" ", 1)[-1])


def _columns(final: Final) -> tuple[str | bool | None, ...]:
    state = {"complete": "done"}.get(final.status, final.status)
    usage = None if final.usage is None else json.dumps(final.usage)
    answer = (final.status, final.content, final.finish_reason, usage, final.backend)
    return *answer, final.code, final.retryable, state


def _committed(answer: Any) -> Final | None:
    if answer["status"] == "pending":
        return None
    usage = json.loads(answer["usage"]) if answer["usage"] else None
    return Final(
        answer["status"],
        answer["content"],
        answer["finish_reason"],
        usage,
        None,
        answer["pin"],
        answer["code"],
        answer["retryable"],
    )
