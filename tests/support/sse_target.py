"""A small real server that speaks the wire contract and can break it on purpose.

It shares no code with the application or the load test, so that what it does wrong is known from here alone:

    python -m tests.support.sse_target --behind polling=0.05

prints its port and serves until it is terminated. `--behind` dates every chunk that many seconds into the past, which
is the delivery latency an honest client must measure at least. A message whose model asks for `fault=hole` (or another
of FAULTS) gets a stream broken in that way. GET /open tells how many streams are open.
"""

import argparse
import asyncio
import json
import re
import socket
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

FAULTS = (
    "hole", "repeat", "disorder", "no_terminal", "mismatch", "cut", "stall", "refuse", "wrong_backend", "reset",
    "malformed", "failed", "wrong_id", "lost_message",
)  # fmt: skip
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "rain",
    "falls",
    "on",
    "the",
    "town",
    "",
]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Target:
    """An ASGI application holding its conversations in memory."""

    def __init__(self, behind: dict[str, float], skew_s: float) -> None:
        self._open = 0
        self._skew_ns = round(skew_s * 1e9)
        self._behind = behind
        self._conversations: dict[str, list[dict[str, Any]]] = {}
        self._tasks: dict[str, dict[str, Any]] = {}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Route one request."""
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        parts = scope["path"].strip("/").split("/")
        if parts[0] == "stream":
            self._open += 1
            try:
                await self._stream(send, self._tasks[parts[1]])
            finally:
                self._open -= 1
        else:
            await _json(send, *self._answer(scope["method"], parts, headers, body))

    def _now_ns(self) -> int:
        return time.time_ns() + self._skew_ns

    def _answer(self, method: str, parts: list[str], headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if parts[0] in {"health", "ready"}:
            return 200, {"status": "ready"}
        if parts[0] == "open":
            return 200, self._open
        if parts[0] == "clock":
            return 200, {"received_ns": self._now_ns(), "sent_ns": self._now_ns()}
        if method == "POST" and len(parts) == 1:
            name = str(uuid.uuid4())
            self._conversations[name] = []
            return 201, {"id": name, "messages": []}
        if method == "POST":
            return self._message(self._conversations[parts[1]], headers, json.loads(body))
        return 200, {"id": parts[1], "messages": self._conversations[parts[1]]}

    def _message(self, messages: list[dict[str, Any]], headers: dict[str, str], asked: Any) -> tuple[int, Any]:
        task_id, now = str(uuid.uuid4()), self._now_ns()
        pace = dict(re.findall(r"(\w+)=([^&]+)", asked.get("model") or ""))
        if pace.get("fault") == "refuse":
            return 503, {"title": "broker down"}
        message = {
            "role": "assistant",
            "content": "",
            "status": "pending",
            "task_id": task_id,
            "backend": "other" if pace.get("fault") == "wrong_backend" else headers["x-streamgauge-backend"],
            "usage": None,
            "timings": {"accepted_ns": now, "requested_ns": now, "first_delta_ns": None, "last_delta_ns": None},
        }
        messages += [{"role": "user", "content": asked["content"], "status": "complete"}, message]
        self._tasks[task_id] = {"pace": pace, "message": message, "backend": headers["x-streamgauge-backend"]}
        return 202, {"task_id": task_id, "message_id": str(uuid.uuid4())}

    async def _stream(self, send: Send, task: dict[str, Any]) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream")],
            }
        )
        await _body(send, b"retry: 1000\n\n: hello\n\n")
        pace = task["pace"]
        fault = pace.get("fault")
        await asyncio.sleep(float(pace.get("ttft", 0.01)))
        records = list(self._records(task, int(pace.get("chunks", 5)) if pace.get("chunks") != "max" else 5))
        began = asyncio.get_running_loop().time()
        for count, record in enumerate(records):
            if fault == "cut" and count == 3:
                raise ConnectionAbortedError("cut on purpose")
            if fault == "stall" and count == 3:
                await asyncio.sleep(3600)
            await _body(send, self._frame(record, task))
            # By an absolute schedule: what a busy machine makes late once must not slow all that follows.
            due = began + (count + 1) * float(pace.get("gap", 0.01))
            await asyncio.sleep(due - asyncio.get_running_loop().time())
        await send({"type": "http.response.body", "body": b""})

    def _records(self, task: dict[str, Any], chunks: int) -> Iterator[dict[str, Any]]:
        """The stream as it will be sent; the honest message is committed before the first event."""
        contents = [f"{WORDS[index % len(WORDS)]} " for index in range(chunks)]
        fault = task["pace"].get("fault")
        _commit(task["message"], contents, fault, self._now_ns())
        records: list[dict[str, Any]] = [
            {"chunk_index": index, "chunk_type": "content", "content": text} for index, text in enumerate(contents)
        ]
        terminal = "failed" if fault == "failed" else "done"
        records.append({"chunk_index": chunks, "chunk_type": terminal, "content": ""})
        if fault == "hole":
            del records[2]
        elif fault == "repeat":
            records.insert(3, records[2])
        elif fault == "disorder":
            records[1], records[2] = records[2], records[1]
        elif fault == "no_terminal":
            records.pop()
        elif fault == "reset":
            records = _with_reset(records)
        yield from records

    def _frame(self, record: dict[str, Any], task: dict[str, Any]) -> bytes:
        behind_ns = round(self._behind.get(task["backend"], 0.0) * 1e9)
        whole = {**record, "attempt": 1, "deltas": 1, "ts_ns": self._now_ns() - behind_ns}
        fault = task["pace"].get("fault")
        if fault == "malformed" and record["chunk_index"] == 2:
            return b"id: 2\ndata: {nonsense\n\n"
        name = record["chunk_index"] + (1 if fault == "wrong_id" else 0)
        return f"id: {name}\ndata: {json.dumps(whole)}\n\n".encode()


def _commit(message: dict[str, Any], contents: list[str], fault: str | None, now: int) -> None:
    message["content"] = "something else" if fault == "mismatch" else "".join(contents)
    message["status"] = "complete"
    message["usage"] = {"completion_tokens": len(contents)}
    message["timings"] |= {"first_delta_ns": now, "last_delta_ns": now}
    if fault == "lost_message":
        message["role"] = "user"


def _with_reset(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two chunks of a first attempt, a reset, then the whole answer: what a redelivered task looks like."""
    dead = [{"chunk_index": index, "chunk_type": "content", "content": "dead "} for index in range(2)]
    reset = {"chunk_index": 2, "chunk_type": "reset", "content": ""}
    return [*dead, reset, *({**record, "chunk_index": record["chunk_index"] + 3} for record in records)]


async def _body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _json(send: Send, status: int, content: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})


def main() -> None:
    """Serve on a free port and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--behind", action="append", default=[], metavar="BACKEND=SECONDS")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--skew", type=float, default=0.0, help="seconds that its clock is ahead")
    parser.add_argument("--certificate", help="a PEM file with its key: serve TLS")
    options = parser.parse_args()
    behind = {name: float(seconds) for name, seconds in (one.split("=") for one in options.behind)}
    listener = socket.socket()
    listener.bind((options.host, 0))
    listener.listen(256)
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        Target(behind, options.skew), lifespan="off", log_level="critical", timeout_graceful_shutdown=1,
        ssl_certfile=options.certificate,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
