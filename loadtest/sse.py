"""A Server-Sent Events parser that stamps every event the moment it is complete, however the bytes were split.

Written from the WHATWG specification ("9.2.6 Interpreting an event stream") and from nothing in the server, so that
a mistake in the server's encoder cannot hide itself here.
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
# The commonest event of all: a number as id, one line of data, a blank line.
_PLAIN = re.compile(rb"id: ([0-9]+)\ndata: ([^\r\n]*)\n\n")


class Event(NamedTuple):
    """One dispatched event; `id` is the last event id in force, `at_ns` the wall clock when its blank line was read."""

    id: str
    data: str
    name: str
    at_ns: int


class Parser:
    """Every complete event is returned by the `feed` that completed it, in order; an unfinished one never is."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self.comments: list[str] = []
        self.retry_ms: int | None = None
        self.last_event_id = ""
        self._clock = clock
        self._pending = b""
        self._at_start = True
        self._after_cr = False
        self._data: list[str] = []
        self._name = ""

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes of the body and return the events they completed."""
        if not data:
            return []
        if not (self._pending or self._at_start or self._after_cr or self._data or self._name):
            # Nothing is open: events of the plain form need no look at their lines.
            return self._plain(data)
        if self._after_cr:
            # The CR that ended the last read already ended its line: this LF only completes the pair.
            self._after_cr = False
            data = data.removeprefix(b"\n")
        buffer = self._pending + data
        if self._at_start:
            if _BOM.startswith(buffer):
                self._pending = buffer
                return []
            self._at_start = False
            buffer = buffer.removeprefix(_BOM)
        return self._split(buffer)

    def _plain(self, data: bytes) -> list[Event]:
        events, at = [], 0
        while found := _PLAIN.match(data, at):
            name, text = found.groups()
            self.last_event_id = name.decode()
            events.append(Event(self.last_event_id, text.decode("utf-8", "replace"), "message", self._clock()))
            at = found.end()
        return events + self._split(data[at:]) if at < len(data) else events

    def _split(self, buffer: bytes) -> list[Event]:
        events: list[Event] = []
        start = 0
        for end in _LINE_END.finditer(buffer):
            event = self._line(buffer[start : end.start()])
            if event is not None:
                events.append(event)
            start = end.end()
        self._after_cr = start == len(buffer) and buffer.endswith(b"\r")
        self._pending = buffer[start:]
        return events

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        text = line.decode("utf-8", "replace")
        if text.startswith(":"):
            self.comments.append(text[1:].removeprefix(" "))
            return None
        field, _, value = text.partition(":")
        self._field(field, value.removeprefix(" "))
        return None

    def _field(self, field: str, value: str) -> None:
        if field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            self.last_event_id = value
        elif field == "event":
            self._name = value
        elif field == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name = [], ""
        if not data:
            return None
        return Event(self.last_event_id, "\n".join(data), name or "message", self._clock())
