"""The producer's task: open the stream, stream the model into it, commit the answer, end the stream."""

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from time import time_ns
from typing import Any
from uuid import UUID

from app.attempt_ends import CancelledByUserError
from app.database import DatabaseUnavailableError, DataRefusedError
from app.leaving import Leaving
from app.llm import Delta, Model, ModelError, Question
from app.producer import RETRY_S, Producer, Store
from app.records import Final, Job, Records
from app.settings import IN_ROWS, Settings
from app.streaming.contract import (
    OPEN,
    Chunk,
    ChunkType,
    FencedError,
    Opening,
    StoreUnavailableError,
    StreamMissingError,
    StreamOverError,
    decode,
    first_index,
)
from app.streaming.pairs import Backends
from app.telemetry import logs, metrics, tracing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What a worker process holds open for all its streams."""

    settings: Settings
    records: Records
    backends: Backends
    model: Model
    leaving: Leaving


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ends: its message's status, its stream's terminal and what that says."""

    status: str
    terminal: ChunkType
    more: dict[str, Any]


def _failed(code: str, *, retryable: bool) -> Ending:
    return Ending("failed", ChunkType.FAILED, {"code": code, "retryable": retryable})


def _unsaved(ending: Ending) -> Ending:
    """End a stream whose message could not be committed; a whole answer says so, for the repair to commit later."""
    whole = ending.more if ending.terminal is ChunkType.DONE else {}
    return Ending("failed", ChunkType.FAILED, {**whole, "code": "persist", "retryable": True})


@dataclass(slots=True)
class Answering:
    """The answer so far, as the final commit will want it."""

    posted_ns: int
    accepted_ns: int
    requested_ns: int | None = None
    first_delta_ns: int | None = None
    last_delta_ns: int | None = None
    finish_reason: str | None = None
    usage: dict[str, int] | None = None

    @property
    def model_ttft_s(self) -> float | None:
        """The model's own time to its first token; None until then."""
        if self.requested_ns is None or self.first_delta_ns is None:
            return None
        return (self.first_delta_ns - self.requested_ns) / 1e9

    def take(self, delta: Delta) -> None:
        """Note what a delta says."""
        if delta.text:
            self.first_delta_ns = self.first_delta_ns or delta.ts_ns
            self.last_delta_ns = delta.ts_ns
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.usage = delta.usage or self.usage

    def final(self, ending: Ending, text: str, backend: str) -> Final:
        """Put together what the final commit writes."""
        names = ("posted_ns", "accepted_ns", "requested_ns", "first_delta_ns", "last_delta_ns")
        timings = {name: getattr(self, name) for name in names}
        how = ending.more.get("code"), ending.more.get("retryable")
        return Final(ending.status, text, self.finish_reason, self.usage, timings, backend, *how)


async def generate(services: Services, task_id: UUID, accepted_ns: int) -> None:
    """Answer one message: open its stream, stream the model into it, commit the message, end the stream.

    Running it again is harmless: a stream that ended is left alone, an open one gets a new attempt that fences the old.
    """
    logs.about(task_id)
    job = await services.records.claim(task_id)
    if job is None:
        log.info("message of task %s was withdrawn or is over; nothing to do", task_id)
        return
    logs.about(task_id, job.message_id, job.backend)
    metrics.QUEUE_WAIT_SECONDS.labels(job.backend).observe(
        max(0, accepted_ns - job.posted_ns) / 1e9, tracing.exemplar(task_id)
    )
    with tracing.task_span(task_id, accepted_ns, backend=job.backend):
        try:
            producer = await _open(services, job)
        except (StreamOverError, FencedError) as error:
            log.info("nothing to do: %s", error)
            return
        metrics.STREAMS_STARTED.labels(job.backend).inc()
        with (
            producer.figures.at_work(),
            tracing.span("stream", attempt=producer.attempt),
            services.leaving.telling(producer),
        ):
            try:
                if job.committed is not None:
                    await _end_committed(job, producer, job.committed)
                else:
                    await _answer(services, job, producer, Answering(job.posted_ns, accepted_ns))
            except FencedError:
                metrics.FENCED.labels(producer.backend).inc()
                log.info("stream %s was taken over by a newer attempt", task_id)


async def _open(services: Services, job: Job) -> Producer:
    """Begin the claimed attempt where the stream is pinned, or in the safe backend if that place is lost."""
    settings, backends = services.settings, services.backends
    writer = backends.writers[job.backend]
    store = Store(job.backend, writer, backends.safe, settings.lease_s, settings.commit_budget_s)
    held = list[Chunk]()
    try:
        opening = await writer.open(job.task_id, job.attempt)
        if opening.next_index:
            entries = await backends.readers[job.backend].get_chunks(job.task_id)
            held = [decode(entry.record) for entry in entries]
        producer = Producer(job.task_id, store, opening, held)
    except (StoreUnavailableError, StreamMissingError):
        if job.backend in IN_ROWS:
            raise
        if job.state != OPEN:
            raise StreamOverError(f"stream {job.task_id} is lost and its message has its end: {job.state}") from None
        if job.attempt > 1:  # an earlier attempt may have spoken, and nobody knows how much
            held = [Chunk(first_index(job.attempt), ChunkType.RESET, "", job.attempt, 0, time_ns())]
        producer = Producer(job.task_id, store, Opening(job.attempt, 0), held)
        await producer.hand_over()
    return producer


async def _produce(services: Services, job: Job, producer: Producer, answering: Answering) -> Ending:
    """Stream the model into the stream. Raises `FencedError` or `StoreUnavailableError`."""
    if producer.begins_anew:
        await producer.append(ChunkType.RESET)
    if producer.attempt > services.settings.max_attempts:
        log.error("stream %s brought down %d attempts; giving it up", job.task_id, producer.attempt - 1)
        return _failed("internal", retryable=False)
    question = Question(job.model, job.history, job.max_tokens)
    server = services.settings.openai_base_url
    answering.requested_ns = time_ns()
    try:
        with tracing.model_span(job.model, job.max_tokens, job.conversation_id, server) as call:
            try:
                async with asyncio.timeout(services.settings.generation_limit_s):
                    await producer.produce(partial(services.model.answer, question), answering.take)
            except ModelError as error:
                tracing.note_failure(call, error.code, error.status, error.retries)
                raise
            finally:
                tracing.note_answer(call, answering.finish_reason, answering.usage, answering.model_ttft_s)
    except CancelledByUserError:
        return Ending("cancelled", ChunkType.CANCELLED, {})
    except ModelError as error:
        log.warning("stream %s failed: %s", job.task_id, error)
        return _failed(error.code, retryable=error.retryable)
    except TimeoutError:
        return _failed("timeout", retryable=True)
    except (FencedError, StoreUnavailableError):
        raise
    except Exception:
        log.exception("stream %s failed by a fault of ours", job.task_id)
        return _failed("internal", retryable=True)
    more = {"finish_reason": answering.finish_reason or "stop", "usage": answering.usage}
    return Ending("complete", ChunkType.DONE, more)


async def _answer(services: Services, job: Job, producer: Producer, answering: Answering) -> None:
    ending = await _produce(services, job, producer, answering)
    if answering.model_ttft_s is not None:
        ttft = metrics.MODEL_TTFT_SECONDS.labels(producer.backend)
        ttft.observe(answering.model_ttft_s, tracing.exemplar(job.task_id))
    final = answering.final(ending, producer.text, producer.backend)
    if not await _commit(services, job.task_id, producer.attempt, final):
        ending = _unsaved(ending)
    await _end(job, producer, ending)


async def _end_committed(job: Job, producer: Producer, final: Final) -> None:
    """End the stream of a message that an earlier attempt committed: the model has nothing more to say."""
    if producer.text != final.content:
        await producer.append(ChunkType.RESET)
        await producer.append(ChunkType.CONTENT, final.content)
    await _end(job, producer, _ending_of(final))


def _ending_of(final: Final) -> Ending:
    if final.status == "complete":
        return Ending(
            "complete", ChunkType.DONE, {"finish_reason": final.finish_reason or "stop", "usage": final.usage}
        )
    if final.status == "cancelled":
        return Ending("cancelled", ChunkType.CANCELLED, {})
    return _failed(final.code or "internal", retryable=final.retryable is not False)


async def _end(job: Job, producer: Producer, ending: Ending) -> None:
    """Write the terminal."""
    await producer.append(ending.terminal, **ending.more)
    outcome = str(ending.terminal)
    metrics.STREAMS_ENDED.labels(producer.backend, outcome).inc()
    metrics.STREAM_SECONDS.labels(producer.backend, outcome).observe(
        (time_ns() - job.posted_ns) / 1e9, tracing.exemplar(job.task_id)
    )
    code = {"code": ending.more["code"]} if "code" in ending.more else {}
    tracing.note(outcome=outcome, backend=producer.backend, **code)
    log.debug("the stream's end is stored: %s", outcome)


async def _commit(services: Services, task_id: UUID, attempt: int, final: Final) -> bool:
    """Write the message, again and again; False when the database stays away, or can't hold it.

    The budget begins with the first failure: a wait for a connection that others have is none. Raises `FencedError`
    when the message is a newer attempt's to write.
    """
    loop = asyncio.get_running_loop()
    deadline: float | None = None
    while True:
        try:
            if not await services.records.commit(task_id, attempt, final):
                raise FencedError
        except DataRefusedError:
            log.exception("message of stream %s can't be committed", task_id)
            return False
        except DatabaseUnavailableError as error:
            deadline = deadline or loop.time() + services.settings.commit_budget_s
            if loop.time() > deadline:
                log.exception("message of stream %s could not be committed", task_id)
                return False
            log.warning("commit of stream %s failed, trying again: %s", task_id, error)
            await asyncio.sleep(RETRY_S)
        else:
            return True
