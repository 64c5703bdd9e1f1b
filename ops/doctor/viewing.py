"""A message of the doctor's own, and what its viewers see of it."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from time import time_ns
from typing import Any, NamedTuple
from uuid import UUID

import httpx2

from app.settings import Settings
from loadtest.key import VARIABLE, key_headers

QUESTION = "This message was posted by streamgauge doctor. Answer with a few words."
TITLE = "streamgauge doctor"


class RefusedError(Exception):
    """An API did not take the message; says its status and its reason, and what to do."""

    def __init__(self, reason: str, fix: str = "Do what its answer says.") -> None:
        super().__init__(reason)
        self.fix = fix


def authorizing(settings: Settings) -> Callable[[httpx2.Request], httpx2.Request]:
    """Have each request carry what lets it in: the scraper's token for metrics, else the key of the environment."""

    def authorize(request: httpx2.Request) -> httpx2.Request:
        if not request.url.path.endswith("/metrics"):
            request.headers.update(key_headers())
        elif settings.metrics_token:
            request.headers["Authorization"] = f"Bearer {settings.metrics_token}"
        return request

    return authorize


@dataclass(slots=True)
class View:
    """What has come so far at one address: content with the instant of its arrival, the terminal, and how it ended."""

    arrivals: dict[int, int] = field(default_factory=dict)
    """Nanoseconds of the wall clock, by chunk index."""
    terminal: dict[str, Any] | None = None
    encoding: str = ""
    status: int = 0
    is_sse: bool = False
    failure: str = ""

    async def follow(self, http: httpx2.AsyncClient, base: str, task_id: UUID) -> None:
        """Note everything until the stream's end; a caller that stops waiting keeps what is noted."""
        try:
            async with http.stream("GET", f"{base}/stream/{task_id}") as response:
                self.status, self.encoding = response.status_code, response.headers.get("content-encoding", "")
                self.is_sse = response.headers.get("content-type", "").startswith("text/event-stream")
                if self.is_sse:
                    async for record in _records(response):
                        self._note(record)
        except httpx2.HTTPError as cause:
            self.failure = str(cause) or type(cause).__name__

    def _note(self, record: dict[str, Any]) -> None:
        if record["chunk_type"] == "content":
            self.arrivals[int(record["chunk_index"])] = time_ns()
        elif record["chunk_type"] != "reset":
            self.terminal = record


async def _records(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line[6:])


class Message(NamedTuple):
    """A message of the doctor's, and the backend that its stream was pinned to."""

    conversation: UUID
    task_id: UUID
    backend: str


async def post(http: httpx2.AsyncClient, api: str, max_tokens: int) -> Message:
    """Post a message in a conversation of its own. Raises `RefusedError`."""
    conversation, _ = await _posted(http, f"{api}/conversations", {"title": TITLE}, "id")
    body = {"content": QUESTION, "max_tokens": max_tokens}
    return Message(conversation, *await _posted(http, f"{api}/conversations/{conversation}/messages", body, "task_id"))


async def _posted(http: httpx2.AsyncClient, url: str, body: dict[str, Any], wanted: str) -> tuple[UUID, str]:
    try:
        answer = await http.post(url, json=body)
        if answer.is_success:
            return UUID(answer.json()[wanted]), answer.headers.get("X-Streamgauge-Backend", "")
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as cause:
        raise RefusedError(str(cause) or type(cause).__name__) from cause
    reason = f"{answer.status_code} {answer.text[:300]}"
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise RefusedError(reason, f"Set {VARIABLE} to one of its keys: the doctor sends that.")
    raise RefusedError(reason)
