"""Conversations and their messages. Posting a message starts the stream of its answer."""

import contextlib
import logging
from datetime import datetime
from time import time_ns
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, computed_field

from app.api.access import Owner
from app.api.dependencies import BACKEND_HEADER, Open, Services, UserHeader
from app.broker import BrokerUnavailableError
from app.database import DatabaseError, DatabaseUnavailableError
from app.records import Posted, StaleFlagError
from app.settings import IN_ROWS
from app.streaming.backends import SAFE, offered
from app.streaming.contract import StoreUnavailableError
from app.streaming.flag_document import FORCED, USER
from app.tables import Message
from app.telemetry import logs, metrics, tracing

log = logging.getLogger(__name__)

router = APIRouter(prefix="/conversations", tags=["conversations"])

TRIES = 5
"""How often one POST chooses a backend anew: each time, the flag was flipped or the chunk store lost just then."""


class NewConversation(BaseModel):
    """What a conversation may begin with."""

    model_config = ConfigDict(extra="forbid", strict=True)
    title: str | None = Field(None, max_length=200, pattern=r"^[^\x00]*$")


class NewMessage(BaseModel):
    """A question. `model` is one that the server allows; `max_tokens` bounds the answer."""

    model_config = ConfigDict(strict=True)
    content: Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00]*$")]
    model: Annotated[str, StringConstraints(min_length=1, max_length=300, pattern=r"^[^\x00]*$")] | None = None
    max_tokens: int | None = Field(None, gt=0)


class Accepted(BaseModel):
    """The answer is under way: follow it at `/stream/{task_id}`; it becomes message `message_id`."""

    task_id: UUID
    message_id: UUID


class MessageOut(BaseModel):
    """One turn of a conversation. Times are integer nanoseconds of the wall clock."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    role: str
    content: str
    status: str
    backend: str | None
    task_id: UUID | None
    finish_reason: str | None
    usage: dict[str, int] | None
    code: str | None
    retryable: bool | None
    timings: dict[str, int | None] | None
    created_at: datetime

    @computed_field
    def partial(self) -> bool:
        """Whether the content is the beginning of an answer that ended early."""
        return self.status in {"failed", "cancelled"} and bool(self.content)


class ConversationOut(BaseModel):
    """A conversation with its messages, oldest first."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    title: str | None
    created_at: datetime
    messages: list[MessageOut] = []


@router.post("", status_code=201)
async def create_conversation(services: Open, owner: Owner, body: NewConversation | None = None) -> ConversationOut:
    """Begin a conversation."""
    conversation = await services.records.add_conversation(body.title if body else None, owner)
    return ConversationOut(id=conversation.id, title=conversation.title, created_at=conversation.created_at)


@router.get("/{conversation_id}")
async def read_conversation(services: Open, owner: Owner, conversation_id: UUID) -> ConversationOut:
    """Give a conversation with its messages, finished or pending."""
    found = await services.records.conversation(conversation_id, owner)
    if found is None:
        raise _unknown(conversation_id)
    conversation, messages = found
    return ConversationOut(
        id=conversation.id,
        title=conversation.title,
        created_at=conversation.created_at,
        messages=[_out(message) for message in messages],
    )


@router.post("/{conversation_id}/messages", status_code=202)
async def post_message(
    services: Open,
    owner: Owner,
    conversation_id: UUID,
    body: NewMessage,
    response: Response,
    forced_backend: Annotated[str | None, Header(alias=BACKEND_HEADER)] = None,
    user: UserHeader = "",
) -> Accepted:
    """Store a question, pin the backend of its answer and enqueue the answer: all of it, or 503 and none of it."""
    _check(services, body, forced_backend)
    services.limits.take_message(owner)
    given = {FORCED: forced_backend, USER: owner or user}
    attributes = {name: value for name, value in given.items() if value}
    for _ in range(TRIES):
        chosen = services.flag.choose(conversation_id, attributes)
        is_away = services.health.away and chosen not in IN_ROWS
        backend = SAFE if is_away and not forced_backend else chosen
        try:
            posted = await _accept(services, conversation_id, owner, body, backend)
        except StaleFlagError as newer:
            services.flag.learn(newer.generation, newer.document)
        except StoreUnavailableError:
            if backend in IN_ROWS or forced_backend:
                raise
        else:
            services.flag.confirm()
            metrics.MESSAGES_POSTED.labels(backend).inc()
            metrics.MESSAGES_REROUTED.inc(backend != chosen)
            response.headers[BACKEND_HEADER] = backend
            log.debug("message accepted")
            return Accepted(task_id=posted.task_id, message_id=posted.message_id)
    raise DatabaseUnavailableError(f"the flag or the chunk store changed {TRIES} times while one message was posted")


async def _accept(
    services: Services, conversation_id: UUID, owner: str | None, body: NewMessage, backend: str
) -> Posted:
    """Store the question and start the stream of its answer on this backend, or leave nothing."""
    started_ns = time_ns()
    posted = await services.records.post(
        conversation_id,
        body.content,
        body.model or services.settings.openai_model,
        body.max_tokens,
        backend,
        services.settings.queue_patience_s,
        services.flag.generation,
        owner,
    )
    if posted is None:
        raise _unknown(conversation_id)
    logs.about(posted.task_id, posted.message_id, backend)
    with tracing.message_span(posted.task_id, started_ns, backend=backend):
        await _start(services, backend, posted)
    return posted


async def _start(services: Services, backend: str, posted: Posted) -> None:
    """Make the stream known, then enqueue its task; undo everything if either fails or the caller goes away."""
    writer = services.backends.writers[backend]
    try:
        if backend in IN_ROWS:
            await writer.create(posted.task_id)
        else:
            await services.health.attempt(writer.create(posted.task_id))
        with tracing.span("enqueue", SpanKind.PRODUCER):
            await services.queue.put(posted.task_id)
    except BaseException as error:
        if isinstance(error, BrokerUnavailableError):
            with contextlib.suppress(StoreUnavailableError):
                await writer.discard(posted.task_id)
        with contextlib.suppress(DatabaseError):
            await services.records.discard(posted)
        raise


def _check(services: Services, body: NewMessage, forced_backend: str | None) -> None:
    settings = services.settings
    if len(body.content) > settings.max_content_chars:
        raise _invalid("content", f"has {len(body.content)} characters; at most {settings.max_content_chars}")
    if body.max_tokens and body.max_tokens > settings.max_tokens:
        raise _invalid("max_tokens", f"at most {settings.max_tokens}")
    if body.model and not settings.allows_model(body.model):
        raise _invalid("model", "not allowed here; leave it out, or add it to STREAMGAUGE_ALLOWED_MODELS")
    backends = offered(settings)
    if forced_backend and forced_backend not in backends:
        raise _invalid(BACKEND_HEADER, f"must be one of {', '.join(backends)}", part="header")


def _invalid(name: str, message: str, part: str = "body") -> RequestValidationError:
    return RequestValidationError([{"loc": (part, name), "msg": message}])


def _unknown(conversation_id: UUID) -> HTTPException:
    return HTTPException(404, f"There is no conversation {conversation_id}; POST /conversations makes one.")


def _out(message: Message) -> MessageOut:
    return MessageOut.model_validate(message)
