"""One trace a message, from the POST to each viewer, in whatever process the work was done."""

import contextlib
import http.server
import inspect
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import server_attributes
from rich.console import Console

from app.settings import Settings
from app.telemetry import tracing
from ops import trace_view
from ops.processes import StackError
from ops.stack import Stack
from ops.trace_view import Span, read_trace, show_trace
from tests.support.client import Client, Posted
from tests.support.waiting import until


def part(span: Span, name: str) -> Span:
    """The part of a span with this name."""
    return next(child for child in span.parts if child.name.startswith(name))


def traced(system: Stack, posted: Posted, viewers: int) -> list[Span]:
    """The message's spans, once its task and its viewers have written theirs."""

    def whole() -> bool:
        top = read_trace(system.traces, UUID(posted.task_id))
        return len(top) == 1 + viewers and any(child.name == "answer_message" for child in top[0].parts)

    until(whole, "the task and every viewer have written their spans")
    return read_trace(system.traces, UUID(posted.task_id))


@pytest.mark.parametrize("backend", ["polling", "pubsub"])
async def test_a_message_is_one_trace_with_its_viewers_linked(system: Stack, client: Client, backend: str) -> None:
    """POST, enqueue, task, stream, model call are nested; a viewer who resumes is linked like the one who began."""
    posted = await client.post("ttft=0.02&gap=0.02&chunks=20", backend)
    seen = ""
    async with contextlib.aclosing(client.follow(posted.task_id)) as events:
        async for event in events:
            seen = event.id or ""
            if seen == "3":
                break
    rest = await client.whole(posted.task_id, **{"Last-Event-ID": seen})

    post, first, second = traced(system, posted, viewers=2)
    assert [span.service for span in (post, first)] == ["api", "api"]
    assert part(post, "enqueue").service == "api"
    task = part(post, "answer_message")
    assert task.service == "worker"
    stream = part(task, "stream")
    assert stream.attributes["outcome"] == "done"
    call = part(stream, "chat scripted")
    assert call.attributes["usage.output_tokens"] == 20
    assert call.attributes["response.finish_reasons"] == ["stop"]
    assert 0.02 <= call.attributes["response.time_to_first_chunk"] < 5
    assert [name for _, name in call.events] == ["first_chunk"]
    assert [name for _, name in first.events] == ["first_chunk"]
    assert [name for _, name in second.events] == ["resume", "first_chunk"]
    assert first.linked
    assert second.linked
    assert (first.attributes["resumed"], second.attributes["resumed"]) == (False, True)
    assert (first.attributes["ended"], second.attributes["ended"]) == (False, True)
    assert second.attributes["events"] == len(rest)
    assert post.start <= task.start <= stream.start <= call.start < call.end <= stream.end <= task.end


async def test_a_trace_holds_no_word_of_question_or_answer(system: Stack, client: Client) -> None:
    """Spans tell times and counts; what people write stays in the database."""
    posted = await client.post("ttft=0.01&gap=0.001&chunks=12", "pubsub")
    await client.whole(posted.task_id)
    traced(system, posted, viewers=1)
    written = "".join(path.read_text() for path in system.traces.glob("*.jsonl"))
    assert posted.task_id.replace("-", "") in written
    assert "How high is the river" not in written
    assert "This is a scripted answer" not in written


async def test_a_failed_model_call_is_marked(system: Stack, client: Client) -> None:
    """Its span has the error's type and the failed status; the stream's has the outcome."""
    posted = await client.post("ttft=0.01&gap=0.001&chunks=12&fault=cut&at=3", "pubsub")
    await client.whole(posted.task_id)
    post, _ = traced(system, posted, viewers=1)
    stream = part(part(post, "answer_message"), "stream")
    assert stream.attributes["outcome"] == "failed"
    call = part(stream, "chat")
    assert call.failed
    assert call.attributes["error.type"] == "ModelError"


async def test_the_waterfall_shows_every_span(system: Stack, client: Client) -> None:
    """`streamgauge trace` prints a line a span, with its place and its length in time."""
    posted = await client.post("ttft=0.01&gap=0.001&chunks=5", "polling")
    await client.whole(posted.task_id)
    traced(system, posted, viewers=1)
    console = Console(record=True, width=200, file=io.StringIO())
    show_trace(console, system.traces, UUID(posted.task_id))
    text = console.export_text()
    for name in ("POST /conversations/{id}/messages", "enqueue", "answer_message", "stream", "chat", "↳ GET /stream"):
        assert name in text
    assert "backend=polling" in text
    assert "so far" not in text


@pytest.mark.parametrize("columns", [20, 80, 110, 200])
@pytest.mark.parametrize("is_terminal", [True, False])
async def test_no_name_and_no_figure_is_ever_cropped(
    system: Stack, client: Client, columns: int, is_terminal: bool
) -> None:
    """However narrow the terminal is, and where there is none; what has no room beside a span stands below it."""
    script = "ttft=0.01&gap=0.001&chunks=5"
    posted = await client.post(script, "polling")
    await client.whole(posted.task_id)
    top = traced(system, posted, viewers=1)
    console = Console(record=True, width=columns, force_terminal=is_terminal, file=io.StringIO())
    show_trace(console, system.traces, UUID(posted.task_id))
    text = console.export_text()
    task = part(top[0], "answer_message")
    figures = rf"  +{1000 * (task.start - top[0].start):.1f}  +{1000 * (task.end - task.start):.1f}"
    assert re.search(rf"^  answer_message +worker{figures}(  |$)", text, re.MULTILINE)
    assert f"chat scripted?{script}" in text
    assert "…" not in text
    assert {"finish_reasons=['stop']", "input_tokens=5", "output_tokens=5", "outcome=done"} <= set(text.split())
    assert ("━" in text) == (is_terminal and columns == 200)
    table = text.partition("span")[2].splitlines()
    if not is_terminal or columns > 80:
        assert max(map(len, table)) <= (columns if is_terminal else 120)


async def test_a_stream_that_goes_on_is_said_to(system: Stack, client: Client) -> None:
    """Its POST has ended long before: that alone looks like a message that took milliseconds."""
    posted = await client.post("ttft=30&gap=0.001&chunks=5", "polling")
    until(lambda: read_trace(system.traces, UUID(posted.task_id)), "the POST has written its span")
    console = Console(record=True, width=200, file=io.StringIO())
    show_trace(console, system.traces, UUID(posted.task_id), patience_s=0.2)
    await client.http.post(f"/stream/{posted.task_id}/cancel")
    assert " ms so far\n" in (text := console.export_text())
    assert "No span says how it ended" in text


async def test_why_a_model_failed_is_told(system: Stack, client: Client) -> None:
    """What the model's server answered, and how often it was asked again; the stream's span has the code of its end."""
    posted = await client.post("fault=500", "pubsub")
    await client.whole(posted.task_id)
    post, _ = traced(system, posted, viewers=1)
    stream = part(part(post, "answer_message"), "stream")
    assert (stream.attributes["outcome"], stream.attributes["code"]) == ("failed", "upstream")
    call = part(stream, "chat")
    assert call.attributes["code"] == "upstream"
    assert call.attributes["http.response.status_code"] == 500
    assert call.attributes["http.request.resend_count"] == 2
    console = Console(record=True, width=200, file=io.StringIO())
    show_trace(console, system.traces, UUID(posted.task_id))
    told = "code=upstream status_code=500 resend_count=2 type=ModelError"
    assert set(told.split()) <= set(console.export_text().split())


def test_a_model_call_is_named_as_the_conventions_of_today_say(tmp_path: Path) -> None:
    """Every attribute exists in the GenAI and server conventions that are installed, and none is deprecated there."""
    conversation_id = uuid4()
    with (
        tracing.tracing(Settings(trace_folder=tmp_path), "test"),
        tracing.task_span(uuid4(), 1),
        tracing.model_span("llama3", 100, conversation_id, "https://models.example.org/v1") as call,
    ):
        tracing.note_answer(call, "stop", {"prompt_tokens": 3, "completion_tokens": 5}, 0.25)
    [path] = tmp_path.iterdir()
    call_line = next(json.loads(line) for line in path.read_text().splitlines() if "chat llama3" in line)
    attributes = call_line["attributes"]
    assert attributes["gen_ai.conversation.id"] == str(conversation_id)
    assert (attributes["server.address"], attributes["server.port"]) == ("models.example.org", 443)
    source = inspect.getsource(gen_ai_attributes) + inspect.getsource(server_attributes)
    for name in attributes:
        _, _, rest = source.partition(f'Final = "{name}"')
        assert rest, f"{name} is in no convention"
        assert not rest.lstrip().startswith('"""\nDeprecated: Replaced'), f"{name} is deprecated"


def test_a_task_without_spans_is_explained(tmp_path: Path) -> None:
    """An unknown task is answered with where spans come from, not with an empty table."""
    with pytest.raises(StackError, match="No span of task"):
        show_trace(Console(quiet=True), tmp_path, uuid4(), patience_s=0.2)


def test_spans_that_are_on_their_way_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written a second after a stream's end, and whoever asks at its end gets them all the same.

    The first that come are not all: the API writes those of the POST while the worker's are still on their way, and a
    viewer's come last.
    """
    task_id, console = uuid4(), Console(record=True, width=200, file=io.StringIO())
    looks = list[int]()

    def look(folder: Path, task_id: UUID) -> list[Span]:
        found = read_trace(folder, task_id)
        looks.append(len(found))
        return found

    monkeypatch.setattr(trace_view, "read_trace", look)
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(show_trace, console, tmp_path, task_id, 30)
        with tracing.tracing(Settings(trace_folder=tmp_path), "api"), tracing.message_span(task_id, time.time_ns()):
            pass
        assert read_trace(tmp_path, task_id)
        with tracing.tracing(Settings(trace_folder=tmp_path), "worker"), tracing.task_span(task_id, time.time_ns()):
            tracing.note(outcome="done")
        seen = len(looks) + 1  # a look that has begun may not have read it
        until(lambda: shown.done() or len(looks) > seen, "it looks on although the outcome is there")
        with tracing.tracing(Settings(trace_folder=tmp_path), "viewed"), tracing.viewer_span(task_id):
            pass
        shown.result()
    assert f"task and trace {task_id}" in (text := console.export_text())
    assert "outcome=done" in text
    assert "↳ GET /stream" in text


def test_every_process_keeps_the_same_share_of_messages(tmp_path: Path) -> None:
    """The task id alone decides, so no trace is kept in one process and dropped in the next."""
    kept = 0
    with tracing.tracing(Settings(trace_folder=tmp_path, trace_ratio=0.25), "test"):
        for _ in range(2000):
            task_id = uuid4()
            with tracing.viewer_span(task_id) as viewer, tracing.task_span(task_id, 1) as task:
                assert viewer.is_recording() == task.is_recording() == (tracing.exemplar(task_id) is not None)
                kept += task.is_recording()
    assert 380 < kept < 620


def test_without_a_place_for_spans_nothing_is_recorded() -> None:
    """Tracing is off unless a collector or a folder is set, and there is no exemplar that leads nowhere."""
    with tracing.tracing(Settings(), "test"), tracing.task_span(uuid4(), 1) as task:
        assert not task.is_recording()
        assert tracing.exemplar(uuid4()) is None


@contextlib.contextmanager
def collector(received: list[ExportTraceServiceRequest]) -> Iterator[str]:
    """A server that reads OTLP as a collector does."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_spans_go_to_a_collector_by_otlp_over_http() -> None:
    """With OTEL_EXPORTER_OTLP_ENDPOINT set; the root span's ids are the ones that the task id gives."""
    received: list[ExportTraceServiceRequest] = []
    task_id = uuid4()
    with (
        collector(received) as endpoint,
        tracing.tracing(Settings(otlp_endpoint=endpoint), "api"),
        tracing.message_span(task_id, 1, backend="pubsub"),
    ):
        pass
    [span] = [
        span
        for request in received
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert span.trace_id == task_id.bytes
    assert span.span_id == task_id.bytes[:8]
    assert tracing.traceparent(task_id) == f"00-{task_id.hex}-{task_id.hex[:16]}-00"
