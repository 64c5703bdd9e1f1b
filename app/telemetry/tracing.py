"""One trace a message. Its id is the task id, so every process knows it without being told.

POST, enqueue, task, stream and model call are spans of that trace; each viewer's is a trace of its own, linked to it.
There is no span per chunk: one costs 28 us, and a stream has hundreds of chunks.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags, Tracer
from opentelemetry.util.types import Attributes, AttributeValue

from app.settings import Settings
from app.telemetry.trace_file import TraceFile

RANDOM_BITS = (1 << 56) - 1
"""What W3C trace context calls random in a trace id; a UUID's version and variant are in the other bits."""
EXPORT_EVERY_MS = 1000
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

NOT_TRACED: Span = trace.INVALID_SPAN

_tracer: Tracer = trace.NoOpTracer()
_ratio = 0.0
_beginning: ContextVar[UUID | None] = ContextVar("message_whose_root_span_begins", default=None)


@contextlib.contextmanager
def tracing(settings: Settings, service: str) -> Iterator[None]:
    """Send this process's spans to the collector and the folder of the settings, for the length of the block."""
    global _tracer, _ratio
    exporters = _exporters(settings, service)
    if not exporters:
        yield
        return
    provider = TracerProvider(
        sampler=_ByTraceId(settings.trace_ratio),
        id_generator=_MessageIds(),
        resource=Resource.create({"service.name": f"streamgauge-{service}", "service.namespace": "streamgauge"}),
        shutdown_on_exit=False,
    )
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS))
    _tracer, _ratio = provider.get_tracer("streamgauge"), settings.trace_ratio
    try:
        yield
    finally:
        _tracer, _ratio = trace.NoOpTracer(), 0.0
        provider.shutdown()


def is_on() -> bool:
    """Tell whether any trace is kept."""
    return _ratio > 0


def exemplar(task_id: UUID) -> dict[str, str] | None:
    """Give the exemplar of an observation that belongs to this message; None when its trace is not kept."""
    return {"trace_id": task_id.hex} if _keeps(task_id.int, _ratio) else None


class Exemplars:
    """Exemplars of one message, at most one a second: an observation with one costs 5 us, without one 2."""

    def __init__(self, task_id: UUID) -> None:
        self._exemplar, self._next = exemplar(task_id), 0.0

    def take(self) -> dict[str, str] | None:
        """Give the exemplar if it is due again."""
        if self._exemplar is None or monotonic() < self._next:
            return None
        self._next = monotonic() + 1
        return self._exemplar


def traceparent(task_id: UUID) -> str:
    """Name the message's root span as W3C's header does, for what else reads the queue."""
    context = _root(task_id)
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(_keeps(task_id.int, _ratio)):02x}"


@contextlib.contextmanager
def message_span(task_id: UUID, started_ns: int, **attributes: AttributeValue) -> Iterator[Span]:
    """Trace the POST of a message: the root, begun when the request came."""
    _beginning.set(task_id)
    with _span("POST /conversations/{id}/messages", SpanKind.SERVER, Context(), attributes, started_ns) as span:
        _beginning.set(None)
        yield span


def span(name: str, kind: SpanKind = SpanKind.INTERNAL, **attributes: AttributeValue) -> AbstractContextManager[Span]:
    """Trace a part of what is being traced around it."""
    return _span(name, kind, None, attributes)


def task_span(task_id: UUID, accepted_ns: int, **attributes: AttributeValue) -> AbstractContextManager[Span]:
    """Trace a worker's attempt at a message, in the message's trace."""
    parent = trace.set_span_in_context(trace.NonRecordingSpan(_root(task_id)))
    return _span("answer_message", SpanKind.CONSUMER, parent, attributes, accepted_ns)


def viewer_span(task_id: UUID, **attributes: AttributeValue) -> AbstractContextManager[Span]:
    """Trace one viewer's response in a trace of its own, linked to the message: a message has any number of viewers."""
    links = [Link(_root(task_id))]
    return _span("GET /stream/{task_id}", SpanKind.SERVER, Context(), attributes, links=links)


def event(name: str, span: Span | None = None, /, **attributes: AttributeValue) -> None:
    """Mark a moment in this span, or the one around it. 7 us: for what happens once in a stream, not for each chunk."""
    (span or trace.get_current_span()).add_event(name, _named(attributes))


def note(**attributes: AttributeValue) -> None:
    """Add what is known by now to the span around it."""
    trace.get_current_span().set_attributes(_named(attributes))


@contextlib.contextmanager
def model_span(model: str, max_tokens: int | None, conversation_id: UUID, base_url: str) -> Iterator[Span]:
    """Trace the model call by the GenAI semantic conventions, without a word of the prompt or the answer."""
    server = urlsplit(base_url)
    asked: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": str(conversation_id),
        "gen_ai.request.model": model,
        "gen_ai.request.stream": True,
        "server.address": server.hostname or "",
        "server.port": server.port or (443 if server.scheme == "https" else 80),
    }
    if max_tokens:
        asked["gen_ai.request.max_tokens"] = max_tokens
    with _span(f"chat {model}", SpanKind.CLIENT, None, {}) as call:
        call.set_attributes(asked)
        yield call


def note_answer(call: Span, finish_reason: str | None, usage: dict[str, int] | None, first_s: float | None) -> None:
    """Add to a model call how it went."""
    if finish_reason:
        call.set_attribute("gen_ai.response.finish_reasons", [finish_reason])
    if first_s is not None:
        call.set_attribute("gen_ai.response.time_to_first_chunk", first_s)
    if usage:
        call.set_attribute("gen_ai.usage.input_tokens", usage["prompt_tokens"])
        call.set_attribute("gen_ai.usage.output_tokens", usage["completion_tokens"])


def note_failure(call: Span, code: str, status: int | None, retries: int) -> None:
    """Add to a model call why it failed: the contract's code, the server's, and how often it had been asked again."""
    call.set_attribute("streamgauge.code", code)
    if status is not None:
        call.set_attribute("http.response.status_code", status)
    if retries:
        call.set_attribute("http.request.resend_count", retries)


@contextlib.contextmanager
def _span(
    name: str,
    kind: SpanKind,
    parent: Context | None,
    attributes: dict[str, AttributeValue],
    started_ns: int | None = None,
    links: Sequence[Link] = (),
) -> Iterator[Span]:
    begun = _tracer.start_span(name, parent, kind, _named(attributes), links, started_ns)
    # The SDK's own record of an exception holds its message, which may quote the model.
    with trace.use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False) as started:
        try:
            yield started
        except Exception as error:
            started.set_attribute("error.type", type(error).__name__)
            started.set_status(StatusCode.ERROR)
            raise


def _named(attributes: dict[str, AttributeValue]) -> dict[str, AttributeValue]:
    return {f"streamgauge.{name}": value for name, value in attributes.items()}


def _root(task_id: UUID) -> SpanContext:
    return SpanContext(task_id.int, task_id.int >> 64, is_remote=True, trace_flags=_SAMPLED)


def _keeps(trace_id: int, ratio: float) -> bool:
    return trace_id & RANDOM_BITS < ratio * (RANDOM_BITS + 1)


class _MessageIds(RandomIdGenerator):
    """Derives the ids of a message's root span from its task id."""

    def generate_trace_id(self) -> int:
        task_id = _beginning.get()
        return task_id.int if task_id else super().generate_trace_id()

    def generate_span_id(self) -> int:
        task_id = _beginning.get()
        return _root(task_id).span_id if task_id else super().generate_span_id()


class _ByTraceId(Sampler):
    """Decides by the message's trace id, in every process alike; a viewer's span is kept if what it links to is."""

    def __init__(self, ratio: float) -> None:
        self._ratio = ratio

    def should_sample(
        self,
        parent_context: Context | None,  # noqa: ARG002 - the SDK's signature
        trace_id: int,
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,  # noqa: ARG002
    ) -> SamplingResult:
        """Tell whether a span is kept."""
        decided_by = links[0].context.trace_id if links else trace_id
        keeps = _keeps(decided_by, self._ratio)
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keeps else Decision.DROP, attributes if keeps else None)

    def get_description(self) -> str:
        """Name the sampler."""
        return f"ByTraceId{{{self._ratio}}}"


def _exporters(settings: Settings, service: str) -> list[SpanExporter]:
    exporters: list[SpanExporter] = []
    if settings.otlp_endpoint:
        # Here, as it brings protobuf with it, and few processes have a collector to send to.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporters.append(OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces"))
    if settings.trace_folder:
        exporters.append(TraceFile(settings.trace_folder / f"{service}-{os.getpid()}.jsonl", service))
    return exporters
