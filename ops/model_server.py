"""A scripted OpenAI-compatible model server: `python -m ops.model_server --port 9000`.

It streams real text at a pace that the model's name sets (`scripted?ttft=0.2&gap=0.05&chunks=100`), on an absolute
schedule that no slow reader pushes back, and fails on demand. Raw ASGI, so that it can feed a thousand streams.
"""

import argparse
import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import msgspec
import uvicorn

from ops.model_answer import Answer, Deltas, Request, choice, encode
from ops.model_script import NAME, PROFILES, Script, ScriptError, parse

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
MAX_BODY = 4 << 20
MARK = ((b"x-streamgauge-scripted", b"true"),)
STREAM_HEADERS = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))
NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})


class _ProblemError(Exception):
    """An answer in OpenAI's error form."""

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[bytes, bytes] = NO_HEADERS) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


_decode = msgspec.json.Decoder(Request).decode


class ModelServer:
    """The ASGI application, with its counters."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._tries = Counter[str]()
        self.stats = {"open_streams": 0, "served": 0, "faults": 0}

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except _ProblemError as problem:
            error = {"message": str(problem), "type": problem.kind, "param": None, "code": problem.kind}
            await _reply(send, problem.status, {"error": error}, problem.headers)

    async def _route(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        match scope["method"], scope["path"]:
            case "POST", "/v1/chat/completions":
                await self._complete(receive, send)
            case "GET", "/v1/models":
                models = [NAME, *(f"{NAME}?profile={profile}" for profile in PROFILES)]
                data = [
                    {"id": name, "object": "model", "created": 0, "owned_by": "streamgauge-scripted"} for name in models
                ]
                await _reply(send, 200, {"object": "list", "data": data})
            case "GET", "/health":
                await _reply(send, 200, {"status": "ok"})
            case "GET", "/stats":
                await _reply(send, 200, self.stats)
            case method, path:
                message = f"{method} {path} is not served: POST /v1/chat/completions, GET /v1/models, /health, /stats"
                raise _ProblemError(404, "not_found", message)

    async def _complete(self, receive: Receive, send: Send) -> None:
        request = _parsed(await _body(receive))
        script = self._mended(request.model, _script(request.model))
        self.stats["faults"] += script.fault is not None
        _refuse(script)
        answer = Answer(request, script, next(self._numbers))
        speaking, leaving = asyncio.create_task(_speak(answer, request, send)), asyncio.create_task(_left(receive))
        self.stats["open_streams"] += 1
        try:
            await asyncio.wait({speaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, leaving):
                task.cancel()
            outcome, _ = await asyncio.gather(speaking, leaving, return_exceptions=True)
            self.stats["open_streams"] -= 1
        if isinstance(outcome, Exception):
            raise outcome
        self.stats["served"] += outcome is None

    def _mended(self, model: str, script: Script) -> Script:
        """Take the fault out of a script whose faulty tries are used up."""
        if script.tries is None:
            return script
        self._tries[model] += 1
        return script if self._tries[model] <= script.tries else replace(script, fault=None)


async def _speak(answer: Answer, request: Request, send: Send) -> None:
    """Play the script on its absolute schedule: a delta that is late goes out at once, the next ones stay on time."""
    if answer.script.fault == "refuse":
        _drop(send)
        return
    if not request.stream:
        await _due(asyncio.get_running_loop().time() + list(answer.instants)[-1])
        await _reply(send, 200, answer.whole(), dict(MARK))
        return
    await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *MARK]})
    deltas = Deltas(answer, _transport(send))
    await deltas.until(min(answer.script.at, answer.count))
    if await _fails(answer.script.fault, send):
        return
    await deltas.until(answer.count)
    ending = answer.frame([choice({}, answer.finish_reason)])
    if request.stream_options and request.stream_options.include_usage:
        ending += answer.frame([], usage=answer.usage)
    await _send_body(send, ending + b"data: [DONE]\n\n", more=False)


async def _fails(fault: str | None, send: Send) -> bool:
    """Do what the fault says in mid-answer; True when nothing may follow."""
    if fault == "cut":
        _drop(send)
    elif fault == "stall":
        await asyncio.Event().wait()
    elif fault == "garbage":
        await _send_body(send, b'data: {"choices": [{"delta": {"cont\n\n')
    return fault == "cut"


def _drop(send: Send) -> None:
    """Close the connection without a word."""
    _transport(send).close()


def _transport(send: Send) -> asyncio.Transport:
    """Reach below ASGI, which has no word for what is done there, for uvicorn's own transport."""
    return cast("asyncio.Transport", send.__self__.transport)  # type: ignore[attr-defined]


async def _due(instant: float) -> None:
    delay = instant - asyncio.get_running_loop().time()
    if delay > 0:
        await asyncio.sleep(delay)


async def _send_body(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _reply(send: Send, status: int, body: object, headers: Mapping[bytes, bytes] = NO_HEADERS) -> None:
    data = body if isinstance(body, bytes) else encode(body)
    all_headers = {b"content-type": b"application/json", b"content-length": b"%d" % len(data), **headers}
    await send({"type": "http.response.start", "status": status, "headers": list(all_headers.items())})
    await _send_body(send, data, more=False)


async def _body(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _ProblemError(400, "invalid_request_error", "the request was cut off")
        parts.append(message.get("body", b""))
        size, more = size + len(parts[-1]), message.get("more_body", False)
        if size > MAX_BODY:
            raise _ProblemError(413, "invalid_request_error", f"the request is larger than {MAX_BODY} bytes")
    return b"".join(parts)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _parsed(body: bytes) -> Request:
    try:
        return _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise _ProblemError(400, "invalid_request_error", f"the request is no chat completion: {error}") from error


def _script(model: str) -> Script:
    try:
        script = parse(model)
    except ScriptError as error:
        raise _ProblemError(400, "invalid_request_error", str(error)) from error
    if script is None:
        raise _ProblemError(
            404, "model_not_found", f"there is no model {model!r} here: use {NAME}, or {NAME}?gap=0.05&chunks=100"
        )
    return script


def _refuse(script: Script) -> None:
    if script.fault == "429":
        raise _ProblemError(429, "rate_limit_exceeded", "a scripted 429: try again after 1 s", {b"retry-after": b"1"})
    if script.fault == "500":
        raise _ProblemError(500, "server_error", "a scripted 500")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    uvicorn.run(
        ModelServer(),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        backlog=4096,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
