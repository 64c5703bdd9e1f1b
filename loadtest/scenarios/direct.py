"""One answer of an OpenAI-compatible model, asked without streamgauge between: what a viewer would see of it alone."""

import os
import time
from functools import partial
from typing import Any

import msgspec
from locust.contrib.fasthttp import FastHttpSession

from loadtest.recorder import Record, Recording, StreamRow
from loadtest.scenarios.conversation import guarded
from loadtest.scenarios.reader import Note, Reader, WireError
from loadtest.scenarios.viewing import check, note_broken
from loadtest.sse import Event

LAST = "[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: dict[str, Any] | str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def complete(client: FastHttpSession, recording: Recording, timeout_s: float) -> list[StreamRow]:
    """Ask the model once and return the row; killed meanwhile, it is censored, not missing."""
    recording.protocol = "openai"
    ending = guarded(partial(_ask, client, recording), timeout_s)
    return [recording.row(*ending)]


def _ask(client: FastHttpSession, recording: Recording) -> None:
    arrival = recording.arrival
    model = arrival.model or os.environ.get("OPENAI_MODEL")
    if not model:
        raise WireError("no model is named: set OPENAI_MODEL")
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": arrival.prompt}],
        "stream": True,
    }
    if arrival.max_tokens is not None:
        body["max_tokens"] = arrival.max_tokens
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if key := os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    recording.sent_ns = recording.opened_ns = time.time_ns()
    with client.request(
        "POST", "/chat/completions", json=body, headers=headers, stream=True, catch_response=True
    ) as response:
        try:
            recording.accepted_ns = time.time_ns()
            check(response, 200)
            Reader(response._response, recording, _noting(recording)).read()
        except BaseException as error:
            note_broken(response, error)
            raise
        finally:
            recording.closed_ns = time.time_ns()
            response.request_meta["response_time"] = (recording.closed_ns - recording.sent_ns) / 1e6
        if recording.terminal is None:
            response.failure(f"the answer ended without {LAST}")


def _noting(recording: Recording) -> Note:
    """Take the events that carry text, and the last one: what holds a role or a reason is no chunk of an answer."""

    def note(event: Event) -> None:
        kind, content = ("done", "") if event.data == LAST else ("content", _content(event.data))
        if content or kind == "done":
            index = recording.events
            record = Record(chunk_index=index, chunk_type=kind, content=content, attempt=1, ts_ns=0)
            recording.event(event._replace(id=str(index)), record)

    return note


def _content(data: str) -> str:
    try:
        chunk = _decode(data)
    except msgspec.MsgspecError as error:
        raise WireError(f"malformed chunk: {error}") from error
    if chunk.error is not None:
        raise WireError(f"the model broke off: {chunk.error}")
    return "".join(one.delta.content for one in chunk.choices if one.delta and one.delta.content)
