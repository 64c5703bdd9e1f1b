"""A lean load for the stage benchmarks: N streams held open, with turnover, by one process.

Locust measures what users see; this costs a few microseconds a chunk, so that on a small machine the system can be
driven to its limits. It speaks the same HTTP as any front end.

`python -m loadtest.bench.client URL --streams 1000 --backend pubsub --pid worker-1=123` prints one JSON object.
"""

import argparse
import asyncio
import itertools
import random
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import httptools
import msgspec
import psutil
import uvloop

HEADERS = "Host: perf\r\nContent-Type: application/json\r\n"
PATIENCE_S = 30.0
PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))


class Event(msgspec.Struct):
    """What the load needs of a record."""

    chunk_index: int
    chunk_type: str
    ts_ns: int
    content: str


_event = msgspec.json.Decoder(Event).decode


@dataclass(slots=True)
class Tally:
    """What was seen inside the measured window, in nanoseconds, and everything that went wrong at any time."""

    is_open: bool = False
    delivery: "array[int]" = field(default_factory=lambda: array("q"))
    ttft: "array[int]" = field(default_factory=lambda: array("q"))
    post: "array[int]" = field(default_factory=lambda: array("q"))
    ended: int = 0
    broken: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The joined text of some streams by conversation, to be held against the committed messages."""


class Exchange(asyncio.Protocol):
    """One connection: requests with JSON answers, then one stream."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[bytes] | None = None
        self._body = b""
        self._is_stream = False
        self.over = asyncio.get_running_loop().create_future()
        self.text = list[str]()
        self._index, self._asked_ns = 0, 0

    async def json(self, method: str, path: str, body: bytes = b"{}", headers: str = "") -> dict[str, str]:
        """Send a request and give its JSON answer; raises `OSError` for one that is no success."""
        self._answer, self._body = asyncio.get_running_loop().create_future(), b""
        self._send(method, path, body, headers)
        answer: dict[str, str] = msgspec.json.decode(await asyncio.wait_for(self._answer, PATIENCE_S))
        return answer

    def follow(self, path: str, asked_ns: int) -> "asyncio.Future[None]":
        """Ask for the stream; the future ends with it."""
        self._is_stream, self._body, self._asked_ns = True, b"", asked_ns
        self._send("GET", path, b"", "")
        return self.over

    def _send(self, method: str, path: str, body: bytes, headers: str) -> None:
        head = f"{method} {path} HTTP/1.1\r\n{HEADERS}{headers}Content-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _take(self, record: bytes) -> None:
        event, now = _event(record), time.time_ns()
        if event.chunk_index != self._index:
            self._tally.broken.append(f"index {event.chunk_index} where {self._index} was due")
        self._index = event.chunk_index + 1
        if event.chunk_type == "content":
            if self._tally.is_open:
                self._tally.delivery.append(now - event.ts_ns)
                if event.chunk_index == 0:
                    self._tally.ttft.append(now - self._asked_ns)
            self.text.append(event.content)
        else:
            if event.chunk_type != "done":
                self._tally.broken.append(f"ended {event.chunk_type}")
            self.over.set_result(None)

    # asyncio.Protocol and httptools

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        self.close = transport.close

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; too early is an error."""
        for future in (self._answer, self.over):
            if future is not None and not future.done():
                future.set_exception(ConnectionError(f"the connection ended: {exc}"))
                future.exception()  # it is looked at where it matters

    def on_message_begin(self) -> None:
        """Begin a response."""
        self._body = b""

    def on_body(self, data: bytes) -> None:
        """Take each complete event, or gather the answer."""
        if not self._is_stream:
            self._body += data
            return
        *events, self._body = (self._body + data).split(b"\n\n")
        for text in events:
            at = text.find(b"data: ")
            if at >= 0:
                self._take(text[at + 6 :])

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        status = self._parser.get_status_code()
        if self._is_stream and not self.over.done():
            self.over.set_exception(OSError(f"the stream ended with status {status} before its terminal"))
        elif not self._is_stream and self._answer and not self._answer.done():
            if status < 300:
                self._answer.set_result(self._body)
            else:
                self._answer.set_exception(OSError(f"{status}: {self._body.decode()[:200]}"))
        self._parser = httptools.HttpResponseParser(self)


class Load:
    """Keeps N streams open against one API, a new one for each that ends."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options, self._tally = options, Tally()
        host, _, port = options.url.removeprefix("http://").partition(":")
        self._host, self._port = host, int(port)
        self._chunks = max(1, round(options.stream_seconds * options.rate))

    async def run(self) -> dict[str, object]:
        """Ramp up, warm up, measure, let everything end, check some texts."""
        options, tally = self._options, self._tally
        self._stopping = asyncio.Event()
        slots = [asyncio.create_task(self._slot(number)) for number in range(options.streams)]
        await asyncio.sleep(options.ramp + options.warmup)
        before, began, tally.is_open = _cpu(options.pid), time.monotonic(), True
        ended = tally.ended
        await asyncio.sleep(options.seconds)
        tally.is_open, seconds, after = False, time.monotonic() - began, _cpu(options.pid)
        ended = tally.ended - ended
        memory = {name: psutil.Process(pid).memory_info().rss for name, pid in options.pid}
        self._stopping.set()
        await asyncio.gather(*slots)
        checked = await self._check_texts()
        return {
            "streams": options.streams,
            "backend": options.backend,
            "seconds": seconds,
            "chunks": len(tally.delivery),
            "chunks_per_s": len(tally.delivery) / seconds,
            "streams_ended": ended,
            "delivery_latency_s": _percentiles(tally.delivery),
            "ttft_s": _percentiles(tally.ttft),
            "post_s": _percentiles(tally.post),
            "cpu_s": {name: after[name] - before[name] for name in after},
            "rss_bytes": memory,
            "texts_checked": checked,
            "broken": len(tally.broken),
            "first_broken": tally.broken[:3],
        }

    async def _slot(self, number: int) -> None:
        """One user, whose first stream is shorter than the next ones, so that ends are spread evenly."""
        await asyncio.sleep(number / self._options.streams * self._options.ramp)
        for turn in itertools.count():
            chunks = random.randint(1, self._chunks) if turn == 0 else self._chunks  # noqa: S311 - load, no secret
            try:
                await self._stream(chunks)
            except (OSError, TimeoutError) as error:
                self._tally.broken.append(str(error) or type(error).__name__)
                await asyncio.sleep(0.5)
            if self._stopping.is_set():
                return

    async def _stream(self, chunks: int) -> None:
        loop, tally, options = asyncio.get_running_loop(), self._tally, self._options
        _, exchange = await loop.create_connection(lambda: Exchange(tally), self._host, self._port)
        try:
            conversation = (await exchange.json("POST", "/conversations"))["id"]
            model = f"{options.model}?ttft=0.3&gap={1 / options.rate:g}&chunks={chunks}"
            body = msgspec.json.encode({"content": "How high is the river?", "model": model})
            asked_ns = time.time_ns()
            forced = f"X-Streamgauge-Backend: {options.backend}\r\n" if options.backend else ""
            posted = await exchange.json("POST", f"/conversations/{conversation}/messages", body, forced)
            if tally.is_open:
                tally.post.append(time.time_ns() - asked_ns)
            await asyncio.wait_for(exchange.follow(f"/stream/{posted['task_id']}", asked_ns), chunks + PATIENCE_S)
            tally.ended += 1
            if len(tally.texts) < options.check:
                tally.texts[conversation] = "".join(exchange.text)
        finally:
            exchange.close()

    async def _check_texts(self) -> int:
        """Hold some of the texts against the committed messages; gives how many."""
        loop = asyncio.get_running_loop()
        for conversation, text in self._tally.texts.items():
            _, exchange = await loop.create_connection(lambda: Exchange(self._tally), self._host, self._port)
            found = await exchange.json("GET", f"/conversations/{conversation}", b"")
            exchange.close()
            if found["messages"][-1]["content"] != text:  # type: ignore[index]
                self._tally.broken.append(f"the text of conversation {conversation} is not the committed one")
        return len(self._tally.texts)


def _cpu(pids: list[tuple[str, int]]) -> dict[str, float]:
    """Give the processor seconds used so far by each process with its children, and by this one."""
    used = {"client": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in pids:
        used[name] = sum(sum(process.cpu_times()[:2]) for process in _family(pid))
    return used


def _family(pid: int) -> Iterator[psutil.Process]:
    parent = psutil.Process(pid)
    yield parent
    yield from parent.children(recursive=True)


def _percentiles(values_ns: "array[int]") -> dict[str, float | int | None]:
    """Give exact percentiles (nearest rank) in seconds."""
    ranked = sorted(values_ns)
    named: dict[str, float | int | None] = {"count": len(ranked)}
    for name, share in PERCENTILES:
        named[name] = ranked[min(len(ranked) - 1, int(share * len(ranked)))] / 1e9 if ranked else None
    return named


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="chunks a second, of each stream")
    parser.add_argument("--backend", default="")
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--stream-seconds", type=float, default=20.0)
    parser.add_argument("--ramp", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--check", type=int, default=20, help="how many texts are held against committed messages")
    parser.add_argument("--pid", type=_named_pid, action="append", default=[], help="NAME=PID whose CPU is measured")
    return parser.parse_args()


def _named_pid(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    return name, int(pid)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(Load(_arguments()).run())) + b"\n")
