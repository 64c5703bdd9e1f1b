"""OpenAI-compatible streaming: the SDK makes the request, the response is read as bytes (`app.speech`)."""

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx2
import openai
from openai.types.chat import ChatCompletionMessageParam

from app.speech import DoneError, Hear, ModelError, Speech, TooLongError
from app.telemetry.logs import quoted
from app.transport import RETRIES, LeanTransport

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 10_000
"""Requests in flight: above what one process can stream, so that `STREAMGAUGE_WORKER_CONCURRENCY` is the bound."""
KINDS = ("text/event-stream", "application/json")
"""What answers are called; other names are taken as well, if an answer comes by them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the model."""

    model: str
    history: Sequence[tuple[str, str]]
    max_tokens: int | None


class Model:
    """A client for one OpenAI-compatible server, shared by every stream of the process."""

    def __init__(self, client: openai.AsyncOpenAI, max_chars: int) -> None:
        self._client, self._max_chars = client, max_chars

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, *, base_url: str, api_key: str, connect_s: float, stall_s: float, max_chars: int
    ) -> AsyncIterator["Model"]:
        """Own the HTTP connections for the length of the block. An answer of over `max_chars` is cut there."""
        timeout = httpx2.Timeout(stall_s, connect=connect_s)
        http = openai.DefaultAsyncHttpxClient(
            timeout=timeout,
            transport=_transport(base_url),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=100),  # through a proxy
            follow_redirects=False,  # what people ask goes to the operator's provider, not to where that points
        )
        async with openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key, timeout=timeout, max_retries=2, http_client=http
        ) as client:
            yield cls(client, max_chars)

    async def answer(self, question: Question, hear: Hear) -> None:
        """Let `hear` have the answer's deltas as they arrive, and return at its end. Raises `ModelError`.

        `hear` is called in the socket's own callback and must not wait. The last deltas carry finish reason and usage.
        An answer that is too long ends by `length`, as it does at the model's own bound, and the model is left.
        """
        speech = Speech(hear, self._max_chars)
        with _model_errors(), _ending_well(self._max_chars):
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
                raise _unfinished(response.headers.get("content-type", ""), speech)


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


@contextlib.contextmanager
def _ending_well(max_chars: int) -> Iterator[None]:
    try:
        yield
    except DoneError:
        pass
    except TooLongError:
        log.warning("an answer was ended at STREAMGAUGE_MAX_ANSWER_CHARS=%d", max_chars)


async def _hear_out(response: openai.AsyncAPIResponse[Any], speech: Speech) -> None:
    """Hear an answer to its end, whether the provider streams, compresses the stream, or answers all at once."""
    http = response.http_response
    if "deliver" in http.extensions and "content-encoding" not in http.headers:
        await http.extensions["deliver"](speech.take)
    else:
        async for data in response.iter_bytes():
            if room := speech.take(data):
                await room
    speech.end()


def _unfinished(kind: str, speech: Speech) -> ModelError:
    """Tell an answer that was cut from a page that is no answer, such as a login's."""
    if speech.is_silent and not kind.startswith(KINDS):
        return ModelError(
            f"the model answered with {kind[:80]!r}, which is no answer; check OPENAI_BASE_URL", retryable=False
        )
    return ModelError("the model's connection closed in mid-answer", retryable=True)


@contextlib.contextmanager
def _model_errors() -> Iterator[None]:
    try:
        yield
    except openai.APITimeoutError as error:
        retries = _retries(error.request)
        raise ModelError("the model did not answer in time", code="timeout", retryable=True, retries=retries) from error
    except openai.APIStatusError as error:
        retryable = error.status_code in {408, 409, 429} or error.status_code >= 500
        retries = _retries(error.request)
        raise ModelError(_refusal(error), retryable=retryable, status=error.status_code, retries=retries) from error
    except openai.APIConnectionError as error:
        retries = _retries(error.request)
        raise ModelError(_unasked(error.__cause__), retryable=True, retries=retries) from error
    except httpx2.TimeoutException as error:
        raise ModelError("the model stalled in mid-answer", code="timeout", retryable=True) from error
    except httpx2.HTTPError as error:
        raise ModelError(f"the model's connection broke in mid-answer: {error}", retryable=True) from error


def _unasked(cause: BaseException | None) -> str:
    """Say why no answer came at all."""
    if isinstance(cause, httpx2.LocalProtocolError):
        return f"the model can't be asked: {cause}"
    if isinstance(cause, httpx2.RemoteProtocolError):
        return f"the model can't be asked: {cause}; check OPENAI_BASE_URL"
    return "the model can't be reached; check OPENAI_BASE_URL"


def _refusal(error: openai.APIStatusError) -> str:
    """Say what the model answered instead of an answer, and what to do about a redirect, which is not followed."""
    if place := error.response.headers.get("location"):
        return f"the model answered {error.status_code}: set OPENAI_BASE_URL to where it sends us, {place[:200]!r}"
    kind = error.code or error.type or "an error"
    return f"the model answered {error.status_code}, {kind}: {quoted(error.message)}"


def _retries(request: httpx2.Request) -> int:
    """Tell how often the SDK had asked before this request, as its own header says."""
    return int(request.headers.get(RETRIES, 0))
