"""One conversation over the wire: ask, read the answer's stream as it comes, compare it with what was committed."""

import time
from typing import Any

import gevent
import msgspec
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpSession

from loadtest.recorder import Committed, Recording, StreamRow
from loadtest.scenarios import reader
from loadtest.scenarios.reader import WireError

BACKEND_HEADER = "X-Streamgauge-Backend"


TRANSPORT_ERRORS: tuple[type[BaseException], ...] = FAILURE_EXCEPTIONS


class _Timings(msgspec.Struct):
    accepted_ns: int | None = None
    requested_ns: int | None = None
    first_delta_ns: int | None = None
    last_delta_ns: int | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Message(msgspec.Struct):
    role: str
    content: str
    status: str
    task_id: str | None = None
    backend: str | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None


class _Conversation(msgspec.Struct):
    id: str
    messages: list[_Message] = []


class _Accepted(msgspec.Struct):
    task_id: str
    message_id: str


def create(client: FastHttpSession) -> str:
    """Make a conversation and return its id; whatever prevents it is a WireError."""
    try:
        with client.request("POST", "/conversations", json={}, catch_response=True) as response:
            return str(_decoded(response, 201, _Conversation).id)
    except TRANSPORT_ERRORS as error:
        raise WireError(f"{type(error).__name__}: {error}") from error


def converse(client: FastHttpSession, recording: Recording, conversation: str, timeout_s: float) -> StreamRow:
    """Drive one message to its end and return its row; being killed meanwhile yields a censored row, not none."""
    limit = gevent.Timeout(timeout_s)
    limit.start()
    try:
        _ask(client, recording, conversation)
        _listen(client, recording)
        if recording.terminal is not None and recording.terminal.chunk_type == "done":
            _verify(client, recording, conversation)
        return recording.row("ended")
    except gevent.GreenletExit:
        return recording.row("censored", "in flight when the run was stopped")
    except gevent.Timeout as expired:
        if expired is not limit:
            return recording.row("failed", "timeout: no bytes from the server")
        return recording.row("failed", f"timeout: not over after {timeout_s:g} s")
    except WireError as error:
        return recording.row("failed", str(error))
    except TRANSPORT_ERRORS as error:
        return recording.row("failed", f"{type(error).__name__}: {error}")
    finally:
        limit.close()


def _ask(client: FastHttpSession, recording: Recording, conversation: str) -> None:
    arrival = recording.arrival
    body: dict[str, Any] = {"content": arrival.prompt}
    if arrival.model is not None:
        body["model"] = arrival.model
    if arrival.max_tokens is not None:
        body["max_tokens"] = arrival.max_tokens
    path, name = f"/conversations/{conversation}/messages", "POST /conversations/[id]/messages"
    headers = {BACKEND_HEADER: arrival.backend}
    recording.sent_ns = time.time_ns()
    with client.request(
        "POST", path, name=f"{name} {arrival.backend}", json=body, headers=headers, catch_response=True
    ) as response:
        recording.accepted_ns = time.time_ns()
        recording.task_id = _decoded(response, 202, _Accepted).task_id


def _listen(client: FastHttpSession, recording: Recording) -> None:
    name = f"GET /stream/[task_id] {recording.arrival.backend}"
    # Compression would hold chunks back until a block is full: ask for none.
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    recording.opened_ns = time.time_ns()
    with client.request(
        "GET", f"/stream/{recording.task_id}", name=name, headers=headers, stream=True, catch_response=True
    ) as response:
        try:
            _check(response, 200)
            reader.read(response._response, recording)
        except BaseException as error:
            # Locust noted a success when the headers came; a stream that broke later must not stay one.
            response.failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))
            raise
        finally:
            recording.closed_ns = time.time_ns()
            response.request_meta["response_time"] = (recording.closed_ns - recording.opened_ns) / 1e6
        if recording.terminal is None or recording.terminal.chunk_type != "done":
            response.failure(f"the stream ended with {recording.terminal and recording.terminal.chunk_type}")


def _verify(client: FastHttpSession, recording: Recording, conversation: str) -> None:
    with client.request(
        "GET", f"/conversations/{conversation}", name="GET /conversations/[id]", catch_response=True
    ) as response:
        messages = _decoded(response, 200, _Conversation).messages
    recording.verified_ns = time.time_ns()
    answers = [one for one in messages if one.role == "assistant" and one.task_id in (recording.task_id, None)]
    if not answers:
        raise WireError("the conversation has no answer after done")
    answer, timings = answers[-1], answers[-1].timings or _Timings()
    recording.committed = Committed(
        status=answer.status,
        content=answer.content,
        backend=answer.backend,
        completion_tokens=answer.usage and answer.usage.completion_tokens,
        accepted_ns=timings.accepted_ns,
        requested_ns=timings.requested_ns,
        first_delta_ns=timings.first_delta_ns,
        last_delta_ns=timings.last_delta_ns,
    )


def _check(response: Any, status: int) -> None:
    if response.status_code != status:
        text = getattr(response, "error", None) or (response.text or "")[:200]
        raise WireError(f"{response.request_meta['request_type']} answered {response.status_code}: {text}")


def _decoded(response: Any, status: int, kind: Any) -> Any:
    try:
        _check(response, status)
        return msgspec.json.decode(response.text, type=kind)
    except (WireError, msgspec.MsgspecError) as error:
        response.failure(error)
        raise WireError(str(error)) from error
