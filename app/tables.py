"""The tables. Migrations are made from these; every query is in `records` or in a backend."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel


def _now() -> datetime:
    return datetime.now(UTC)


_moment = sa.DateTime(timezone=True)


class Conversation(SQLModel, table=True):
    """A list of messages."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    title: str | None = None
    owner: str | None = None
    created_at: datetime = Field(default_factory=_now, sa_type=_moment)


class Message(SQLModel, table=True):
    """One turn. An assistant's message is pending until its stream's final commit."""

    seq: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    id: UUID = Field(default_factory=uuid4, unique=True)
    conversation_id: UUID = Field(foreign_key="conversation.id", index=True, ondelete="CASCADE")
    role: str
    content: str = ""
    status: str = "complete"
    model: str | None = None
    max_tokens: int | None = None
    task_id: UUID | None = Field(default=None, unique=True)
    backend: str | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = Field(default=None, sa_type=JSONB)
    code: str | None = None
    retryable: bool | None = None
    timings: dict[str, int | None] | None = Field(default=None, sa_type=JSONB)
    created_at: datetime = Field(default_factory=_now, sa_type=_moment)


class Stream(SQLModel, table=True):
    """The pin: which backend holds a stream. Where that is one of `settings.IN_ROWS` also the stream's whole state."""

    task_id: UUID = Field(primary_key=True)
    message_id: UUID = Field(foreign_key="message.id", unique=True, ondelete="CASCADE")
    backend: str
    state: str = "open"
    attempt: int = 0
    next_index: int = 0
    last_reset: int = 0
    cancel_requested: bool = False
    lease_until: datetime = Field(sa_type=_moment)
    created_at: datetime = Field(default_factory=_now, sa_type=_moment, index=True)


class StreamChunk(SQLModel, table=True):
    """One record of a stream whose backend is one of `settings.IN_ROWS`."""

    __tablename__ = "stream_chunk"

    task_id: UUID = Field(primary_key=True, foreign_key="stream.task_id", ondelete="CASCADE")
    chunk_index: int = Field(primary_key=True)
    chunk_type: str
    content: str
    attempt: int
    deltas: int
    ts_ns: int = Field(sa_type=sa.BigInteger)
    finish_reason: str | None = None
    usage: dict[str, int] | None = Field(default=None, sa_type=JSONB)
    code: str | None = None
    retryable: bool | None = None


class FlagDocument(SQLModel, table=True):
    """One generation of the flag document; the newest is in force."""

    __tablename__ = "flag_document"

    generation: int | None = Field(default=None, sa_column=sa.Column(sa.BigInteger, sa.Identity(), primary_key=True))
    document: dict[str, Any] = Field(sa_type=JSONB)
    changed_by: str = Field(default="", sa_column_kwargs={"server_default": ""})
    reason: str = Field(default="", sa_column_kwargs={"server_default": ""})
    hash: str | None = None
    created_at: datetime = Field(default_factory=_now, sa_type=_moment)


class Rollout(SQLModel, table=True):
    """The last word of a rollout's controller, for people to see: one row, overwritten."""

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    generation: int = Field(sa_type=sa.BigInteger)
    word: dict[str, Any] = Field(sa_type=JSONB)
    updated_at: datetime = Field(sa_type=_moment)
