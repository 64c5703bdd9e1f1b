"""A lean HTTP/1.1 transport under the openai SDK: one `asyncio.Protocol` a connection, parsed by httptools.

It stands where httpx2's own transport would (`httpx2.AsyncBaseTransport`) and keeps its promises: connect, read, write
and pool timeouts from the request, TLS, keep-alive, a bound on connections, back-pressure. A stream of small deltas
costs most in what lies between the socket and its reader: through the response's extension `deliver` (`Body.deliver`)
the bytes of a body reach a function in the socket's own callback, with no task to wake up.
It knows no proxies: a client that needs one uses httpx2's transport (`app.llm`).
"""

import asyncio
import contextlib
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import cast

import httptools
import httpx2

BUFFER_BYTES = 1 << 18
"""A reader that leaves more than this unread pauses the socket."""
Origin = tuple[bytes, bytes, int | None]
Take = Callable[[bytes], "asyncio.Future[None] | None"]
"""Gets bytes of a body; when it gives a future, no more is read until that is done."""


class LeanTransport(httpx2.AsyncBaseTransport):
    """Sends requests over connections that it keeps, reuses and bounds. For one event loop.

    Args:
        max_connections: requests in flight at most; one more waits for the request's `pool` timeout.
        max_idle: connections kept for reuse, per origin.
        tls: how servers are verified; by default as httpx2 does.
    """

    def __init__(self, *, max_connections: int, max_idle: int = 100, tls: ssl.SSLContext | None = None) -> None:
        self._given_tls, self._max_idle = tls, max_idle
        self._slots = asyncio.Semaphore(max_connections)
        self._idle = defaultdict[Origin, deque[Connection]](deque)
        self._open = set[Connection]()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and give its response as soon as the head is there; the body follows as it comes."""
        timeouts = request.extensions.get("timeout", {})
        message = _head(request) + b"".join([part async for part in request.stream])  # type: ignore[union-attr]
        async with _limit(timeouts.get("pool"), httpx2.PoolTimeout("too many requests are in flight")):
            await self._slots.acquire()
        connection = None
        try:
            connection = await self._connection(request.url, timeouts.get("connect"))
            await connection.send(message, timeouts.get("read"), timeouts.get("write"))
        except BaseException:
            self._release(connection, None)
            raise
        body = Body(connection, self, _origin(request.url))
        more = {"http_version": b"HTTP/1.1", "deliver": body.deliver}
        return httpx2.Response(connection.status, headers=connection.headers, stream=body, extensions=more)

    async def aclose(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            connection.close()
        while self._open:
            await asyncio.wait([connection.lost for connection in self._open])
            self._open = {connection for connection in self._open if not connection.lost.done()}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = self._given_tls or httpx2.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def _connection(self, url: httpx2.URL, timeout_s: float | None) -> "Connection":
        idle = self._idle[_origin(url)]
        while idle:
            connection = idle.pop()
            if connection.is_reusable:
                return connection
        tls = self._tls if url.scheme == "https" else None
        port = url.port or (443 if tls else 80)
        late = httpx2.ConnectTimeout(f"no connection to {url.host}:{port} in {timeout_s} s")
        try:
            async with _limit(timeout_s, late):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, url.host, port, ssl=tls)
        except OSError as error:
            raise httpx2.ConnectError(f"{url.host}:{port}: {error}") from error
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def _release(self, connection: "Connection | None", origin: Origin | None) -> None:
        self._slots.release()
        if connection is None:
            return
        if origin and connection.is_reusable and len(self._idle[origin]) < self._max_idle:
            self._idle[origin].append(connection)
        else:
            connection.close()


class Body(httpx2.AsyncByteStream):
    """A response's body: yields what each socket read brought. Closing it early closes its connection."""

    def __init__(self, connection: "Connection", transport: LeanTransport, origin: Origin) -> None:
        self._connection, self._transport, self._origin = connection, transport, origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        while data := await connection.read():
            yield data

    async def deliver(self, take: Take) -> None:
        """Hand each piece to `take` as it comes, and return at the body's end. Raises what `take` raised."""
        await self._connection.deliver(take)

    async def aclose(self) -> None:
        """Let the connection go: back to the idle ones when the body was read to its end."""
        if not self._closed:
            self._closed = True
            self._transport._release(self._connection, self._origin)


class Connection(asyncio.Protocol):
    """One connection, which carries one exchange at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lost = self._loop.create_future()
        self.status, self.headers = 0, list[tuple[bytes, bytes]]()
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
    def is_reusable(self) -> bool:
        """Whether another request may be sent: the last response was read to its end, and nobody closed."""
        is_read = self._complete and not self._parts and not self._held
        return is_read and self._keep_alive and not self._transport.is_closing() and self._error is None

    async def send(self, message: bytes, read_s: float | None, write_s: float | None) -> None:
        """Send a request and wait for the head of its response. Raises `httpx2.TransportError`."""
        self._exchange(read_s)
        self._transport.write(message)
        if self._writable:
            async with _limit(write_s, httpx2.WriteTimeout("the server takes no more of the request")):
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
        self._take = take
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

    def close(self) -> None:
        """Close at once; what is under way is lost."""
        self._transport.abort()

    def _exchange(self, read_s: float | None) -> None:
        self._read_s = read_s
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._buffered = list[bytes](), 0
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
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class

    def data_received(self, data: bytes) -> None:
        """Parse what came, and wake the reader once if it must know."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(httpx2.RemoteProtocolError(f"the server does not speak HTTP: {error}"))
            return
        if self._take is None or self._complete or self._fault is not None:
            self._wake()
        else:
            self._read_at = self._loop.time()

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
        """Keep a header."""
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


def _origin(url: httpx2.URL) -> Origin:
    return url.raw_scheme, url.raw_host, url.port


def _head(request: httpx2.Request) -> bytes:
    """Write a request's first line and headers."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise httpx2.LocalProtocolError("a line break in a header; look at OPENAI_API_KEY")
    return b"\r\n".join([*lines, b"", b""])


@contextlib.asynccontextmanager
async def _limit(seconds: float | None, late: httpx2.TimeoutException) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late from None
