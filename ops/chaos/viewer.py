"""A viewer as a browser's EventSource is one: it comes back with the last id it saw, and trusts nothing it is sent."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx2
import msgspec

from loadtest.sse import Event, Parser

RETRY_S = 1.0
"""How long to wait before coming back, until a server's `retry:` says otherwise."""
READ_S = 40.0
"""A connection that is silent for longer than two keep-alives is dead."""


class Record(msgspec.Struct):
    """What a viewer needs of a chunk."""

    chunk_index: int
    chunk_type: str
    content: str
    code: str | None = None


_decode = msgspec.json.Decoder(Record).decode


@dataclass
class Sight:
    """All that one viewer saw of one stream, over all its connections, and what was wrong with it."""

    text: list[str] = field(default_factory=list)
    ending: str | None = None
    """The terminal's type, with its code if it has one: `done`, `failed/upstream`; None until it came."""
    chunks: int = 0
    resets: int = 0
    returns: int = 0
    """How often the viewer came back after its connection had ended."""
    repeats: int = 0
    holes: list[str] = field(default_factory=list)
    silence_s: float = 0.0
    """The longest wait for a chunk, from the accepted POST on."""
    _due: int | None = None
    _heard_at: float = field(default_factory=time.monotonic)

    def take(self, record: Record) -> None:
        """Hold a record against what is due: contiguous, or a new beginning at index 0 or at a reset."""
        self.end_silence()
        is_reset = record.chunk_type == "reset"
        if is_reset:
            self.resets += 1
            self.text.clear()
            if record.chunk_index < 0:  # told by the server itself, outside of the log: all of it follows
                self._due = None
                return
        self._check(record.chunk_index, is_reset=is_reset)
        self._due, self.chunks = record.chunk_index + 1, self.chunks + 1
        if record.chunk_type == "content":
            self.text.append(record.content)
        elif not is_reset:
            self.ending = f"{record.chunk_type}/{record.code}" if record.code else record.chunk_type

    def end_silence(self) -> None:
        """Count the wait until now."""
        now = time.monotonic()
        self.silence_s, self._heard_at = max(self.silence_s, now - self._heard_at), now

    def _check(self, index: int, *, is_reset: bool) -> None:
        due = self._due or 0
        if self.ending is not None:
            self.holes.append(f"chunk {index} came after the terminal")
        elif index < due:
            self.repeats += 1
        elif index > due and not is_reset:
            self.holes.append(f"chunk {index} came where {due} was due")


class Viewer:
    """Follows one stream to its terminal, at another server each time its connection ends."""

    def __init__(self, http: httpx2.AsyncClient, urls: Sequence[str], task_id: str, *, leave_s: float | None) -> None:
        """`leave_s`: break off each connection after a random time up to this, at whatever byte that is."""
        self._http, self._urls, self._task_id, self._leave_s = http, urls, task_id, leave_s
        self._turn = random.randrange(len(urls))  # noqa: S311 - spreads viewers, guards nothing
        self._last_id = ""
        self._retry_s = RETRY_S
        self.sight = Sight()

    async def watch(self) -> None:
        """Return after the terminal, or once a server says that there is nothing to come back for."""
        while await self._is_cut_off():
            self.sight.returns += 1
            await asyncio.sleep(0 if self._leave_s else self._retry_s)
            self._turn += 1

    async def _is_cut_off(self) -> bool:
        """Connect once; True when the stream is not over, and coming back makes sense."""
        url = f"{self._urls[self._turn % len(self._urls)]}/stream/{self._task_id}"
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        stay_s = random.uniform(0, self._leave_s) if self._leave_s else None  # noqa: S311
        try:
            async with asyncio.timeout(stay_s), self._http.stream("GET", url, headers=headers) as response:
                if response.status_code == 204 or response.status_code in range(400, 500):
                    self._told_to_go(response.status_code)
                    return False
                if response.status_code == 200:
                    await self._read(response)
        except (httpx2.HTTPError, TimeoutError):
            pass
        return self.sight.ending is None

    def _told_to_go(self, status: int) -> None:
        if self.sight.ending is None:
            self.sight.holes.append(f"the server answered {status} before the terminal came")

    async def _read(self, response: httpx2.Response) -> None:
        parser = Parser()
        async for data in response.aiter_raw():
            for event in parser.feed(data):
                self._take(event)
            if parser.retry_ms is not None:
                self._retry_s = parser.retry_ms / 1000

    def _take(self, event: Event) -> None:
        self._last_id = event.id or self._last_id
        record = _decode(event.data)
        if record.chunk_index >= 0 and event.id != str(record.chunk_index):
            self.sight.holes.append(f"chunk {record.chunk_index} came with id {event.id!r}")
        self.sight.take(record)
