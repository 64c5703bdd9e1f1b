"""One connection of the lean load: requests with JSON answers, then one stream, whose bytes are scanned and not parsed.

A chunk that looks exactly as the contract says costs one match of a pattern, in which its index, its number of deltas
and its instant are; everything else (terminals, comments, an event cut in two) goes through a JSON decoder.
"""

import re
from array import array
from dataclasses import dataclass, field

import msgspec

_CONTENT = (
    rb'(?:id: \d+\n)?data: \{"chunk_index":(\d+),"chunk_type":"content","content":"(?:[^"\\]|\\.)*",'
    rb'"attempt":\d+,"deltas":(\d+),"ts_ns":(\d+)\}\n\n'
)
PLAIN = re.compile(_CONTENT)
CHUNKED = re.compile(rb"[0-9a-fA-F]+\r\n" + _CONTENT + rb"\r\n")
"""One event alone in one chunk of the HTTP body, as servers send it."""
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_ENCODED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked\r\n")
_STATUS = slice(9, 12)


class Event(msgspec.Struct):
    """What the load needs of a record."""

    chunk_index: int
    chunk_type: str
    ts_ns: int
    content: str
    deltas: int = 0


_event = msgspec.json.Decoder(Event).decode


class BrokenError(Exception):
    """The server answered something that is not the contract."""


@dataclass(slots=True)
class Tally:
    """What was seen inside the measured window, in nanoseconds, and everything that went wrong at any time."""

    is_open: bool = False
    deltas: int = 0
    """What the model made of the text that came: several of them share a chunk under backlog."""
    delivery: "array[int]" = field(default_factory=lambda: array("q"))
    ttft: "array[int]" = field(default_factory=lambda: array("q"))
    post: "array[int]" = field(default_factory=lambda: array("q"))
    ended: int = 0
    broken: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """The joined text of some streams by conversation, to be held against the committed messages."""


def _not_ended(size: int) -> None:
    if not size:
        raise BrokenError("the connection ended early")


class Answer:
    """Gathers one response with a Content-Length."""

    def __init__(self) -> None:
        self._data = b""
        self.body, self.at_ns = b"", 0

    def received(self, buffer: bytearray, size: int, now_ns: int) -> bool:
        """Take bytes; True once the body is whole. Raises `BrokenError` unless the answer is a success."""
        _not_ended(size)
        self._data += buffer[:size]
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if found else None
        if length is None or len(body) < int(length[1]):
            return False
        if not head[_STATUS].startswith(b"2"):
            raise BrokenError(f"{head[_STATUS].decode()}: {body.decode(errors='replace')[:200]}")
        self.body, self.at_ns = body, now_ns
        return True


class Stream:
    """Scans one event stream: the indexes are contiguous, the terminal is `done`, and nothing follows it."""

    def __init__(self, tally: Tally, asked_ns: int, *, keep_text: bool) -> None:
        self._tally, self._asked_ns = tally, asked_ns
        self._keep_text = keep_text
        self.text: list[str] = []
        self._due = 0
        self._pattern = PLAIN
        self._in_body = self._is_clean = False
        self._rest = b""
        """Bytes of the body that are not yet a whole chunk of it."""
        self._event = b""
        """Content of the body that is not yet a whole event."""

    def received(self, buffer: bytearray, size: int, now_ns: int) -> bool:
        """Take bytes; True once the terminal was seen. Raises `BrokenError` for what breaks the contract."""
        # Nearly every read is one whole event in order: no further calls for it.
        if self._is_clean and (found := self._pattern.fullmatch(buffer, 0, size)) and int(found[1]) == self._due:
            self._due += 1
            if self._tally.is_open and self._due > 1:
                self._tally.deltas += int(found[2])
                self._tally.delivery.append(now_ns - int(found[3]))
            elif self._tally.is_open:
                self._count(now_ns, int(found[2]), int(found[3]))
            return False
        _not_ended(size)
        data: bytes | bytearray = buffer
        if self._rest or not self._in_body:
            data = self._rest + buffer[:size]
            size = len(data)
        at = 0 if self._in_body else self._head(data)
        if at < 0:
            return False
        is_over = self._scan(data, at, size, now_ns)
        self._is_clean = not (self._rest or self._event or self._keep_text)
        return is_over

    def _head(self, data: bytes | bytearray) -> int:
        """Give where the body begins, or -1 as long as it does not."""
        end = data.find(b"\r\n\r\n") + 2
        if end < 2:
            self._rest = bytes(data)
            return -1
        if data[_STATUS] != b"200":
            raise BrokenError(f"the stream was answered with {bytes(data[_STATUS]).decode()}")
        if _ENCODED.search(data, 0, end):
            self._pattern = CHUNKED
        self._in_body, self._rest = True, b""
        return end + 2

    def _scan(self, data: bytes | bytearray, at: int, size: int, now_ns: int) -> bool:
        is_open, match = self._tally.is_open, self._pattern.match
        while at < size:
            found = None if self._event or self._keep_text else match(data, at, size)
            if found is None:
                at, is_over = self._slowly(data, at, size, now_ns)
                if at < 0 or is_over:
                    return is_over
                continue
            self._in_order(int(found[1]))
            if is_open:
                self._count(now_ns, int(found[2]), int(found[3]))
            at = found.end()
        self._rest = b""
        return False

    def _slowly(self, data: bytes | bytearray, at: int, size: int, now_ns: int) -> tuple[int, bool]:
        """Take one chunk of the body, whatever is in it; -1 for the position when there is no whole one yet."""
        if self._pattern is PLAIN:
            body, at = data[at:size], size
        else:
            line = data.find(b"\r\n", at, size)
            length = int(data[at:line], 16) if line >= 0 else 0
            if line < 0 or line + length + 4 > size:
                self._rest = bytes(data[at:size])
                return -1, False
            if not length:
                raise BrokenError("the stream ended before its terminal")
            body, at = data[line + 2 : line + 2 + length], line + length + 4
        *events, self._event = (self._event + body).split(b"\n\n")
        terminals = [self._take(event, now_ns) for event in events]
        return at, any(terminals)

    def _take(self, text: bytes, now_ns: int) -> bool:
        _, found, record = (b"\n" + text).partition(b"\ndata: ")
        if not found:
            return False  # a comment, or `retry:`
        event = _event(record)
        self._in_order(event.chunk_index)
        if event.chunk_type == "content":
            if self._tally.is_open:
                self._count(now_ns, event.deltas, event.ts_ns)
            if self._keep_text:
                self.text.append(event.content)
            return False
        if event.chunk_type != "done":
            raise BrokenError(f"the stream ended with {event.chunk_type}")
        return True

    def _in_order(self, index: int) -> None:
        if index != self._due:
            raise BrokenError(f"index {index} came where {self._due} was due")
        self._due = index + 1

    def _count(self, now_ns: int, deltas: int, ts_ns: int) -> None:
        self._tally.deltas += deltas
        self._tally.delivery.append(now_ns - ts_ns)
        if self._due == 1:
            self._tally.ttft.append(now_ns - self._asked_ns)
