"""One answer of the scripted model: its words and ending as OpenAI's objects, its instants, and their play."""

import asyncio
import random
import time
from typing import Annotated, Any

import msgspec

from ops.model_script import WORDS, Script, word

AT_ONCE = 64
"""Deltas in one write when all are due; then it is others' turn."""


class _Part(msgspec.Struct):
    text: str = ""


class _Turn(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None


class _Options(msgspec.Struct):
    include_usage: bool = False


class Request(msgspec.Struct):
    """What is read of a request for a completion."""

    model: str
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    stream: bool = False
    stream_options: _Options | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


encode = msgspec.json.Encoder().encode
_WORDS = tuple(map(encode, WORDS))


class Answer:
    """One scripted answer: its words, its instants, its ending."""

    def __init__(self, request: Request, script: Script, number: int) -> None:
        source = random.Random(number if script.seed is None else script.seed)  # noqa: S311 - a script, no secret
        cap = request.max_tokens or request.max_completion_tokens
        whole = script.deltas(cap, source)
        self.count = min(whole, cap) if cap else whole
        self.finish_reason = "length" if self.count < whole else "stop"
        self.script, self.model, self.id = script, request.model, f"chatcmpl-scripted-{number}"
        self.created = int(time.time())
        self.instants = script.instants(self.count, source)
        prompt = sum(len(_text(turn).split()) for turn in request.messages)
        self.usage = {"prompt_tokens": prompt, "completion_tokens": self.count, "total_tokens": prompt + self.count}

    def frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        """Write one chunk of the stream."""
        return b"data: %b\n\n" % encode(self._object("chat.completion.chunk", choices, **more))

    def whole(self) -> bytes:
        """Write the answer in one piece."""
        message = {"role": "assistant", "content": "".join(map(word, range(self.count)))}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
        return encode(self._object("chat.completion", [choice], usage=self.usage))

    def cutting(self) -> tuple[bytes, bytes]:
        """Give the constant halves of a content chunk, around its text."""
        before, after = self.frame([choice({"content": "@@"})]).split(b'"@@"')
        return before, after

    def _object(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**head, "system_fingerprint": "scripted", "choices": choices, **more}


class Deltas:
    """An answer's deltas, written by timers straight to the socket, ready as chunks of the HTTP body.

    A task that slept and sent for each cost twice as much. What a slow reader has not taken waits in the transport: an
    answer is bounded, and its schedule must not depend on who reads it.
    """

    def __init__(self, answer: Answer, transport: asyncio.Transport) -> None:
        self._loop, self._transport = asyncio.get_running_loop(), transport
        started = self._loop.time()
        self._instants = (started + instant for instant in answer.instants)
        self._due = next(self._instants)
        self._before, self._after = answer.cutting()
        self._opening = answer.frame([choice({"role": "assistant", "content": ""})])
        self._index = self._end = 0

    async def until(self, end: int) -> None:
        """Play up to delta `end`, which is left out; being cancelled stops the timers."""
        if self._index >= end:
            return
        self._end, self._played = end, self._loop.create_future()
        self._timer = self._loop.call_at(self._due, self._tick)
        try:
            await self._played
        finally:
            self._timer.cancel()

    def _tick(self) -> None:
        """Write what is due, in one piece, and come again for the next."""
        now, ready = self._loop.time(), [self._frame()]
        while self._index < self._end and self._due <= now and len(ready) < AT_ONCE:
            ready.append(self._frame())
        self._transport.write(b"".join(ready))
        if self._index < self._end:
            self._timer = self._loop.call_at(self._due, self._tick)
        elif not self._played.done():
            self._played.set_result(None)

    def _frame(self) -> bytes:
        word = _WORDS[self._index % len(_WORDS)]
        body = b"%b%b%b%b" % (self._opening, self._before, word, self._after)
        self._index, self._opening = self._index + 1, b""
        self._due = next(self._instants, self._due)
        return b"%x\r\n%b\r\n" % (len(body), body)


def choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    """Give the one choice of an answer or a chunk."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _text(turn: _Turn) -> str:
    return turn.content if isinstance(turn.content, str) else " ".join(part.text for part in turn.content or ())
