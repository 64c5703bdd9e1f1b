"""The bytes of a model's answer become deltas, however a provider frames them and wherever reads cut them."""

import asyncio
import contextlib
from collections.abc import Callable
from time import time_ns
from typing import Any

import msgspec

from app.connection import HeardOutError
from app.telemetry.logs import quoted

MAX_LINE = 1 << 20
MAX_WHOLE = 8 << 20
"""Bytes of an answer that comes as one JSON document; all streams of the process wait while it is decoded."""

NUL, REPLACEMENT = "\0", "\ufffd"
"""PostgreSQL holds no NUL: as rows are appended together, one would fail the appends of every stream beside it."""

BLANK = b"\xef\xbb\xbf \t\r\n"
"""What may stand before an answer and says nothing: a byte order mark, spaces, empty lines."""


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


class DoneError(HeardOutError):
    """The provider has said `[DONE]`: whatever follows is no part of the answer."""


class TooLongError(Exception):
    """The answer is as long as one may be, and was ended."""


class _NoChunkError(ModelError):
    """A line can't be decoded."""


class _Part(msgspec.Struct):
    """What a list of content holds; parts that have no text, such as what a model thinks, are no part of the answer."""

    text: str | None = None


class _Text(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Choice(msgspec.Struct):
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | int | bool | None = None


class _Event(msgspec.Struct):
    """A chunk. Only of the text must the type be right: whatever else a provider gets wrong spoils no answer."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")
MAX_TOKENS = 1 << 53
"""Beyond this a count of tokens is none, and JSON's readers disagree about it."""

_event = msgspec.json.Decoder(_Event).decode


class Speech:
    """Hears deltas out of an answer's bytes: events, in lines that end in LF, CR or both, or one JSON document.

    Which of the two it is tells the first byte that says something, not what the provider's headers call it.
    """

    def __init__(self, hear: Hear, max_chars: int) -> None:
        self._hear, self._rest, self._whole = hear, b"", bytearray()
        self._left = self._max_chars = max_chars
        self._is_events = self.finished = False

    @property
    def is_silent(self) -> bool:
        """Whether not a word has been heard."""
        return self._left == self._max_chars

    def take(self, data: bytes) -> "asyncio.Future[None] | None":
        """Hear the lines that these bytes complete; a future says when there is room for more."""
        if not self._is_events:
            return self._begin(data)
        if b"\r" in data:  # in JSON none stands as it is
            data = data.replace(b"\r", b"\n")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ModelError("the model sent a line of over 1 MiB", retryable=False)
        room = None
        for line in lines:
            if line.startswith(b"data:"):
                room = self._take_event(line[5:].strip())
        return room

    def end(self) -> None:
        """Hear what only the end of the body completes: a whole answer, or a last line without its line break."""
        with contextlib.suppress(_NoChunkError):  # it was cut, and so the answer is not finished
            if self._whole:
                self._take_event(bytes(self._whole))
            elif self._rest:
                self.take(b"\n")

    def _begin(self, data: bytes) -> "asyncio.Future[None] | None":
        """Tell events from one document, and keep the document for its end."""
        if not self._whole:
            data = data.lstrip(BLANK)
            if data and not data.startswith(b"{"):
                self._is_events = True
                return self.take(data)
        self._whole += data
        if len(self._whole) > MAX_WHOLE:
            raise ModelError("the model sent a whole answer of over 8 MiB", retryable=False)
        return None

    def _take_event(self, event: bytes) -> "asyncio.Future[None] | None":
        """Hear what one event says, which is JSON."""
        if event == b"[DONE]":
            raise DoneError
        try:
            delta = _delta(event)
        except _NoChunkError as error:
            error.retryable = not self.is_silent  # who has not said a word that we understand won't the next time
            raise
        if delta.finish_reason:
            self.finished = True
        self._left -= len(delta.text)
        if self._left < 0:
            self._hear(Delta(delta.text[: self._left], delta.ts_ns, "length"))
            raise TooLongError
        return self._hear(delta) if delta.text or delta.finish_reason or delta.usage else None


def _delta(line: bytes) -> Delta:
    now = time_ns()
    try:
        event = _event(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not line:
            return Delta("", now)
        raise _NoChunkError(f"the model sent a line that is no chunk: {quoted(line[:80])}", retryable=True) from error
    if event.error:
        raise ModelError(f"the model reported an error: {quoted(str(event.error))}", retryable=True)
    usage = _usage(event.usage) if event.usage else None
    if not event.choices:
        return Delta("", now, usage=usage)
    choice = event.choices[0]
    said = choice.delta or choice.message
    text, reason = said.content if said else None, choice.finish_reason
    if isinstance(text, list):
        text = "".join(part.text or "" for part in text)
    return Delta(
        text.replace(NUL, REPLACEMENT) if text else "",
        now,
        str(reason).replace(NUL, REPLACEMENT) if reason else None,
        usage,
    )


def _usage(said: Any) -> dict[str, int] | None:
    """Read what the provider counted, as far as it is numbers."""
    if not isinstance(said, dict):
        return None
    counts = {name: said.get(name) for name in USAGE}
    return {
        name: int(count) if isinstance(count, int | float) and 0 <= count < MAX_TOKENS else 0
        for name, count in counts.items()
    }
