"""What may come in on a connection: so many of them, each request's head in so many bytes, and all of it in so long.

uvicorn bounds none of these, and the parser below it keeps a header's value for as long as it comes.
"""

import asyncio
from dataclasses import dataclass

from app.outlet import SocketProtocol

HEAD_BYTES = 32 * 1024
"""Of a head, whether it comes in one piece or never ends."""
LINE_BYTES = len(": \r\n")
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections a process holds, and how long a request may be on its way in."""

    connections: int
    request_s: float


class _TooLargeError(Exception):
    """Stops the parser in mid-head."""


class GuardedProtocol(SocketProtocol):
    """A connection that is closed when its next request does not come whole, in time, and with a head of some size.

    A response takes as long as it takes: the clock runs from a request's first byte to its last.
    """

    bounds: Bounds
    """Set by `guarded`, on a class of its own for each server."""
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = _came_bytes = 0
    """Of the head's lines as they are known, and of what came while none is: its last line may never end."""
    _is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin a connection, or close one too many at once."""
        super().connection_made(transport)
        if len(self.connections) > self.bounds.connections:
            transport.abort()
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that grows without an end is refused."""
        self._expect()
        if self._is_in_head:
            self._came_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._came_bytes > HEAD_BYTES:
            self._refuse()

    def on_message_begin(self) -> None:
        """Begin a request, perhaps one that follows another in the same piece."""
        super().on_message_begin()
        self._head_bytes = 0
        self._expect()

    def on_url(self, url: bytes) -> None:
        """Take the target, or a piece of it."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; one that comes after the body, as a trailer, would be added to those of the head."""
        self._head_bytes += len(name) + len(value) + LINE_BYTES
        if self._head_bytes > HEAD_BYTES:
            raise _TooLargeError
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Have the whole head."""
        self._is_in_head, self._came_bytes = False, 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser gave up; it did so on our word where a head is too large."""
        if self._head_bytes > HEAD_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(TOO_LARGE)
            self.transport.close()

    def on_message_complete(self) -> None:
        """Have the whole request."""
        self._is_in_head = True
        self._forget_deadline()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection."""
        self._forget_deadline()
        super().connection_lost(exc)

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.bounds.request_s, self.transport.close)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def guarded(bounds: Bounds) -> type[GuardedProtocol]:
    """Make the protocol of a server with these bounds."""
    return type("BoundedProtocol", (GuardedProtocol,), {"bounds": bounds})
