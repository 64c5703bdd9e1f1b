"""How long a message takes to begin on an idle system: its POST, its way to a worker, its first chunk at the viewer.

`python -m loadtest.bench.post http://127.0.0.1:8000 http://127.0.0.1:9000` posts to each system in turn, one message at
a time, so that both see the same machine; it prints each system's medians and the ratios of one round to another.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from typing import Any

import msgspec
import uvloop

from loadtest.bench.client import Exchange, Tally

PARTS = ("post_ms", "task_start_ms", "model_asked_ms", "first_chunk_ms")
BODY = b'{"content": "How high is the river?", "model": "scripted?ttft=0.05&gap=0.01&chunks=2"}'
MODEL_MS = 50
"""What the scripted model waits before its first token: it leaves the viewer the time to join."""


async def measure(url: str, backend: str) -> dict[str, float]:
    """Post one message, follow it to its end, and give its milliseconds since just before the POST."""
    tally, loop = Tally(is_open=True), asyncio.get_running_loop()
    host, _, port = url.removeprefix("http://").partition(":")
    _, exchange = await loop.create_connection(lambda: Exchange(tally), host, int(port))
    try:
        conversation = (await exchange.json("POST", "/conversations"))["id"]
        path, forced = f"/conversations/{conversation}/messages", f"X-Streamgauge-Backend: {backend}\r\n"
        sent_ns = time.time_ns()
        posted = await exchange.json("POST", path, BODY, forced)
        answered_ns = time.time_ns()
        await exchange.follow(f"/stream/{posted['task_id']}", sent_ns)
    finally:
        exchange.close()
    _, exchange = await loop.create_connection(lambda: Exchange(tally), host, int(port))
    try:
        found: Any = await exchange.json("GET", f"/conversations/{conversation}", b"")
    finally:
        exchange.close()
    timings: dict[str, int] = found["messages"][-1]["timings"]
    first_ns = sent_ns + tally.ttft[0] - MODEL_MS * 1_000_000
    at = (answered_ns, timings["accepted_ns"], timings["requested_ns"], first_ns)
    return {name: (ns - sent_ns) / 1e6 for name, ns in zip(PARTS, at, strict=True)}


async def run(urls: list[str], backend: str, rounds: int, warmup: int) -> dict[str, object]:
    """Measure each system once a round, in an order drawn anew for every round."""
    rows: dict[str, list[dict[str, float]]] = {url: [] for url in urls}
    for number in range(warmup + rounds):
        for url in random.sample(urls, len(urls)):
            row = await measure(url, backend)
            if number >= warmup:
                rows[url].append(row)
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
