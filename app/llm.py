"""OpenAI-compatible streaming: the SDK makes the request, the response is read as bytes, only the delta is decoded."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from time import time_ns
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx2
import msgspec
import openai
from openai.types.chat import ChatCompletionMessageParam

from app.telemetry.logs import quoted
from app.transport import LeanTransport

MAX_LINE = 1 << 20
MAX_CONNECTIONS = 10_000
"""Requests in flight: above what one process can stream, so that `STREAMGAUGE_WORKER_CONCURRENCY` is the bound."""

NUL, REPLACEMENT = "\0", "\ufffd"
"""PostgreSQL holds no NUL: as rows are appended together, one would fail the appends of every stream beside it."""


class Delta(msgspec.Struct, gc=False):
    """One piece of the answer, stamped when this process held it. The last ones carry the ending."""

    text: str
    ts_ns: int
    finish_reason: str | None = None
    usage: dict[str, int] | None = None


Hear = Callable[[Delta], "asyncio.Future[None] | None"]
"""Gets each delta at once; when it gives a future, no more is read of the answer until that is done."""


class ModelError(Exception):
    """The model failed. `code` is the contract's; `retryable` says whether asking again may help.

    `status` is what it answered, if that was an error; `retries` counts how often the SDK had asked again by then.
    """

    def __init__(
        self, message: str, *, code: str = "upstream", retryable: bool, status: int | None = None, retries: int = 0
    ) -> None:
        super().__init__(message)
        self.code, self.retryable, self.status, self.retries = code, retryable, status, retries


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: dict[str, Any] | str | None = None


_event = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the model."""

    model: str
    history: Sequence[tuple[str, str]]
    max_tokens: int | None


class Model:
    """A client for one OpenAI-compatible server, shared by every stream of the process."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, *, base_url: str, api_key: str, connect_s: float, stall_s: float) -> AsyncIterator["Model"]:
        """Own the HTTP connections for the length of the block."""
        timeout = httpx2.Timeout(stall_s, connect=connect_s)
        http = openai.DefaultAsyncHttpxClient(
            timeout=timeout,
            transport=_transport(base_url),
            follow_redirects=False,  # what people ask goes to the operator's provider, not to where that points
        )
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key, timeout=timeout, max_retries=2, http_client=http
        ) as client:
            yield cls(client)

    async def answer(self, question: Question, hear: Hear) -> None:
        """Let `hear` have the answer's deltas as they arrive, and return at its end. Raises `ModelError`.

        `hear` is called in the socket's own callback and must not wait. The last deltas carry finish reason and usage.
        """
        speech = _Speech(hear)
        with _model_errors(), contextlib.suppress(_DoneError):
            async with self._client.chat.completions.with_streaming_response.create(
                model=question.model,
                messages=[],  # see `_turns`
                max_tokens=question.max_tokens if question.max_tokens is not None else openai.omit,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"messages": _turns(question.history)},
            ) as response:
                await _hear_out(response, speech)
            if not speech.finished:
                raise ModelError("the model's connection closed in mid-answer", retryable=True)


def _transport(base_url: str) -> LeanTransport | None:
    """Choose the lean transport, or httpx2's own (None) if the environment names a proxy for this server."""
    url, proxies = httpx2.URL(base_url), getproxies()
    is_proxied = not proxies.keys().isdisjoint({url.scheme, "all"}) and not proxy_bypass(url.host)
    return None if is_proxied else LeanTransport(max_connections=MAX_CONNECTIONS)


def _turns(history: Sequence[tuple[str, str]]) -> list[ChatCompletionMessageParam]:
    """Write the history as the wire has it, for `extra_body`, which the SDK sends as it is.

    What it gets as `messages` it transforms first: 0.3 ms for each, while all streams of the process wait.
    """
    return [
        {"role": "assistant", "content": content} if role == "assistant" else {"role": "user", "content": content}
        for role, content in history
    ]


class _DoneError(Exception):
    """The provider has said `[DONE]`: whatever follows is no part of the answer."""


class _Speech:
    """Hears deltas out of an answer's bytes, however they were cut."""

    def __init__(self, hear: Hear) -> None:
        self._hear, self._rest = hear, b""
        self.finished = False

    def take(self, data: bytes) -> "asyncio.Future[None] | None":
        """Hear the lines that these bytes complete; a future says when there is room for more."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ModelError("the model sent a line of over 1 MiB", retryable=False)
        room = None
        for line in lines:
            if line.startswith(b"data:"):
                room = self.take_event(line[5:].strip())
        return room

    def take_event(self, event: bytes) -> "asyncio.Future[None] | None":
        """Hear what one event says, which is JSON."""
        if event == b"[DONE]":
            raise _DoneError
        delta = _delta(event)
        self.finished = self.finished or delta.finish_reason is not None
        return self._hear(delta) if delta.text or delta.finish_reason or delta.usage else None


async def _hear_out(response: openai.AsyncAPIResponse[Any], speech: _Speech) -> None:
    """Hear an answer to its end, whether the provider streams, compresses the stream, or answers all at once."""
    http = response.http_response
    if http.headers.get("content-type", "").startswith("application/json"):
        speech.take_event(await response.read())
    elif "deliver" in http.extensions and "content-encoding" not in http.headers:
        await http.extensions["deliver"](speech.take)
    else:
        async for data in response.iter_bytes():
            if room := speech.take(data):
                await room


def _delta(line: bytes) -> Delta:
    now = time_ns()
    try:
        event = _event(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"the model sent a line that is no chunk: {quoted(line[:80])}", retryable=True) from error
    if event.error is not None:
        raise ModelError(f"the model reported an error: {quoted(str(event.error))}", retryable=True)
    usage = msgspec.structs.asdict(event.usage) if event.usage else None
    if not event.choices:
        return Delta("", now, usage=usage)
    choice = event.choices[0]
    said = choice.delta or choice.message
    text, reason = said.content if said else None, choice.finish_reason
    return Delta(
        text.replace(NUL, REPLACEMENT) if text else "",
        now,
        reason.replace(NUL, REPLACEMENT) if reason else reason,
        usage,
    )


@contextlib.contextmanager
def _model_errors() -> Any:
    try:
        yield
    except openai.APITimeoutError as error:
        retries = _retries(error.request)
        raise ModelError("the model did not answer in time", code="timeout", retryable=True, retries=retries) from error
    except openai.APIStatusError as error:
        retryable = error.status_code in {408, 409, 429} or error.status_code >= 500
        kind = error.code or error.type or "an error"
        raise ModelError(
            f"the model answered {error.status_code}, {kind}: {quoted(error.message)}",
            retryable=retryable,
            status=error.status_code,
            retries=_retries(error.request),
        ) from error
    except openai.APIConnectionError as error:
        retries = _retries(error.request)
        raise ModelError(
            "the model can't be reached; check OPENAI_BASE_URL", retryable=True, retries=retries
        ) from error
    except httpx2.TimeoutException as error:
        raise ModelError("the model stalled in mid-answer", code="timeout", retryable=True) from error
    except httpx2.HTTPError as error:
        raise ModelError(f"the model's connection broke in mid-answer: {error}", retryable=True) from error


def _retries(request: httpx2.Request) -> int:
    """Tell how often the SDK had asked before this request, as its own header says."""
    return int(request.headers.get("x-stainless-retry-count", 0))
