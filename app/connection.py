"""One HTTP/1.1 connection to a model, as an `asyncio.Protocol` parsed by httptools."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

import httptools
import httpx2

BUFFER_BYTES = 1 << 18
"""A reader that leaves more than this unread pauses the socket."""
MAX_HEAD = 1 << 16
"""Bytes of a response before its body, interim heads included. No read timeout would end an endless one."""
Take = Callable[[bytes], "asyncio.Future[None] | None"]
"""Gets bytes of a body; when it gives a future, no more is read until that is done."""


class HeardOutError(Exception):
    """Raised by a `Take` that wants no more of a body, whose end is near."""


class Connection(asyncio.Protocol):
    """One connection, which carries one exchange at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self.status, self.headers = 0, list[tuple[bytes, bytes]]()
        self.idle_since = 0.0
        self._error: httpx2.TransportError | None = None
        self._take: Take | None = None
        self._fault: Exception | None = None
        self._held = False
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._buffered = 0
        self._exchange(None)
        self._complete = True

    @property
    def is_ending(self) -> bool:
        """Whether the reader has all that it wanted, and the body's end may follow by itself."""
        return isinstance(self._fault, HeardOutError) and not self._complete and self._is_sized

    @property
    def is_reusable(self) -> bool:
        """Whether another request may be sent: the last response was read to its end, and nobody closed."""
        is_read = self._complete and not self._parts and not self._held
        return is_read and self._keep_alive and not self._transport.is_closing() and self._error is None

    async def send(self, message: bytes, read_s: float | None, write_s: float | None) -> None:
        """Send a request and wait for the head of its response. Raises `httpx2.TransportError`."""
        self._exchange(read_s)
        self._transport.write(message)
        if self._writable:
            async with limited(write_s, httpx2.WriteTimeout("the server takes no more of the request")):
                await self._writable
        while not self._has_head:
            await self._wait()

    async def read(self) -> bytes:
        """Give what has come of the body, at least a byte, waiting for it; `b""` at the end."""
        while not self._parts:
            if self._complete:
                return b""
            await self._wait()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._buffered > BUFFER_BYTES:
            self._transport.resume_reading()
        self._buffered = 0
        return data

    async def deliver(self, take: Take) -> None:
        """Hand what comes of the body to `take`, which must not wait; return at the end. Raises what `take` raised."""
        come = b"".join(self._parts)
        self._parts.clear()
        self._take, self._fault = take, None
        if self._buffered > BUFFER_BYTES:
            self._transport.resume_reading()
        self._buffered = 0
        try:
            if come:
                self._hand(come)
            while not self._complete and self._fault is None:
                await self._wait()
        finally:
            self._take = None
        if self._fault is not None:
            raise self._fault

    def _hand(self, data: bytes) -> None:
        if self._fault is not None or self._take is None:
            return
        try:
            room = self._take(data)
        except Exception as error:
            self._fault = error
            return
        if room is not None and not self._held:
            self._held = True
            self._transport.pause_reading()
            room.add_done_callback(self._go_on)

    def _go_on(self, _room: "asyncio.Future[None]") -> None:
        self._held, self._read_at = False, self._loop.time()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def read_out(self, seconds: float) -> None:
        """Let the little that is left of a body go by, so that the connection may be used again; else close it."""
        try:
            async with asyncio.timeout(seconds):
                await self.deliver(_ignore)
        except (TimeoutError, httpx2.TransportError):
            self.close()

    def close(self) -> None:
        """Close at once; what is under way is lost."""
        self._transport.abort()

    def _exchange(self, read_s: float | None) -> None:
        self._read_s = read_s
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._buffered, self._head_bytes = list[bytes](), 0, 0
        self._take = self._fault = None
        self._has_head = self._complete = self._keep_alive = self._is_sized = False

    async def _wait(self) -> None:
        """Wait for the next socket read, or for the end while they are delivered; no read may take too long."""
        if self._error:
            raise self._error
        self._waiter = self._loop.create_future()
        self._read_at = self._loop.time()
        if self._read_s is not None and self._timer is None:
            self._timer = self._loop.call_later(self._read_s, self._look)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _look(self) -> None:
        """End a silence that has become too long. One timer serves many reads: it is set anew only when it is due."""
        self._timer = None
        if self._waiter is None or self._read_s is None:
            return
        left = self._read_s if self._held else self._read_at + self._read_s - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._fail(httpx2.ReadTimeout(f"the server sent nothing for {self._read_s} s"))

    def _fail(self, error: httpx2.TransportError) -> None:
        self._error = self._error or error
        self._transport.abort()
        if self._waiter and not self._waiter.done():
            self._waiter.set_exception(self._error)

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and let the system find out when the other end is gone for good."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wake the reader once if it must know."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx2.RemoteProtocolError(f"the server does not speak HTTP: {error}"))
            return
        if self._take is not None and not self._complete and self._fault is None:
            self._read_at = self._loop.time()
            return
        if not self._has_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD:
                self._fail(httpx2.RemoteProtocolError("the server sent a head of over 64 KiB"))
        self._wake()

    def pause_writing(self) -> None:
        """Hold the request: the server takes it too slowly."""
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Go on."""
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End: a body without a length ends here as well, any other is broken."""
        self._keep_alive = False
        if self._timer:
            self._timer.cancel()
        if self._has_head and not self._is_sized and exc is None:
            self._complete = True
            self._wake()
        elif not self._complete:
            self._fail(httpx2.RemoteProtocolError(str(exc or "the server closed the connection in mid-answer")))
        self.resume_writing()
        self.lost.set_result(None)

    # httptools

    def on_message_begin(self) -> None:
        """Begin a head; an interim one (1xx) is followed by another."""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, but no trailer: nobody asks for one."""
        if self._has_head:
            return
        self.headers.append((name, value))
        self._is_sized = self._is_sized or name.lower() in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        """Know the status."""
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """Deliver a piece of the body, or keep it; stop reading the socket when nobody takes them."""
        if self._take is not None:
            self._hand(data)
            return
        self._parts.append(data)
        before, self._buffered = self._buffered, self._buffered + len(data)
        if before <= BUFFER_BYTES < self._buffered:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Know that the exchange is over."""
        if self._has_head:
            self._complete, self._keep_alive = True, self._parser.should_keep_alive()


def _ignore(_data: bytes) -> None:
    """Take a piece of a body that nobody wants."""


@contextlib.asynccontextmanager
async def limited(seconds: float | None, late: httpx2.TimeoutException) -> AsyncIterator[None]:
    """Raise `late` when the block takes longer than so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late from None
