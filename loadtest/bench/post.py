"""How long a message takes to begin on an idle system: its POST, its way to a worker, its first chunk at the viewer.

`python -m loadtest.bench.post http://127.0.0.1:8000 http://127.0.0.1:9000` posts to each system in turn, one message at
a time, so that both see the same machine; it prints each system's medians and the ratios of one round to another.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import uvloop

from loadtest.bench.wire import Answer, Stream, Tally

HEADERS = "Host: localhost\r\nContent-Type: application/json\r\n"
READ_BYTES = 1 << 16
PATIENCE_S = 30.0
PARTS = ("post_ms", "task_start_ms", "model_asked_ms", "first_chunk_ms")
BODY = b'{"content": "How high is the river?", "model": "scripted?ttft=0.05&gap=0.01&chunks=2"}'
MODEL_MS = 50
"""What the scripted model waits before its first token: it leaves the viewer the time to join."""


class Connection:
    """One connection to a system, kept for one message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Connection"]:
        """Own a connection for the length of the block."""
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(
        self, method: str, path: str, receiver: Answer | Stream, body: bytes = b"", headers: str = ""
    ) -> None:
        """Send a request and let `receiver` take the response to its end."""
        head = f"{method} {path} HTTP/1.1\r\n{HEADERS}{headers}Content-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        is_over = False
        while not is_over:
            data = bytearray(await asyncio.wait_for(self._reader.read(READ_BYTES), PATIENCE_S))
            is_over = receiver.received(data, len(data), time.time_ns())

    async def json(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Any:
        """Send a request and give its JSON answer."""
        answer = Answer()
        await self.ask(method, path, answer, body, headers)
        return msgspec.json.decode(answer.body)


async def measure(url: str, backend: str) -> dict[str, float]:
    """Post one message, follow it to its end, and give its milliseconds since just before the POST."""
    tally = Tally(is_open=True)
    async with Connection.open(url) as connection:
        conversation = (await connection.json("POST", "/conversations", b"{}"))["id"]
        path, forced = f"/conversations/{conversation}/messages", f"X-Streamgauge-Backend: {backend}\r\n"
        sent_ns = time.time_ns()
        posted = await connection.json("POST", path, BODY, forced)
        answered_ns = time.time_ns()
        await connection.ask("GET", f"/stream/{posted['task_id']}", Stream(tally, sent_ns, keep_text=False))
    async with Connection.open(url) as connection:
        found = await connection.json("GET", f"/conversations/{conversation}")
    timings: dict[str, int] = found["messages"][-1]["timings"]
    first_ns = sent_ns + tally.ttft[0] - MODEL_MS * 1_000_000
    at = (answered_ns, timings["accepted_ns"], timings["requested_ns"], first_ns)
    return {name: (ns - sent_ns) / 1e6 for name, ns in zip(PARTS, at, strict=True)}


async def in_turn(places: Mapping[str, tuple[str, str]], rounds: int, warmup: int) -> dict[str, list[dict[str, float]]]:
    """Measure at each place, a URL and a backend by their name, once a round, in an order drawn anew each time."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in places}
    for number in range(warmup + rounds):
        for name in random.sample(list(places), len(places)):
            row = await measure(*places[name])
            if number >= warmup:
                rows[name].append(row)
    return rows


async def run(urls: list[str], backend: str, rounds: int, warmup: int) -> dict[str, object]:
    """Compare systems: the medians of each, and the ratios of one to another."""
    rows = await in_turn({url: (url, backend) for url in urls}, rounds, warmup)
    found: dict[str, object] = {
        url: {name: _quantiles([row[name] for row in of_url]) for name in PARTS} for url, of_url in rows.items()
    }
    first = rows[urls[0]]
    for url in urls[1:]:
        pairs = list(zip(first, rows[url], strict=True))
        found[f"{urls[0]} over {url}"] = {
            name: round(statistics.median(a[name] / b[name] for a, b in pairs), 3) for name in PARTS
        }
    return found


def _quantiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--backend", default="pubsub")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    options = _arguments()
    found = uvloop.run(run(options.urls, options.backend, options.rounds, options.warmup))
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
