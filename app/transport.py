"""A lean HTTP/1.1 transport under the openai SDK: one `asyncio.Protocol` a connection.

It stands where httpx2's own transport would (`httpx2.AsyncBaseTransport`) and keeps its promises: connect, read, write
and pool timeouts from the request, TLS, keep-alive, a bound on connections, back-pressure. A stream of small deltas
costs most in what lies between the socket and its reader: through the response's extension `deliver` (`Body.deliver`)
the bytes of a body reach a function in the socket's own callback, with no task to wake up.
It knows no proxies: a client that needs one uses httpx2's transport (`app.llm`).
"""

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from functools import cached_property
from math import inf

import httpx2

from app.connection import Connection, Take, limited

MAX_ERROR = 1 << 16
"""Bytes that are read of the body of an error or a redirect, which the asker reads whole; what follows is dropped."""

END_S = 0.5
"""For a body's end to follow the word that nothing follows: usually it is the next packet."""

KEEP_S = 4.0
"""An idle connection is kept below the 5 s after which many servers close theirs, and any NAT's patience."""
RETRIES = "x-stainless-retry-count"
"""The SDK's header: how often it has sent this request before."""

Origin = tuple[bytes, bytes, int | None]


class LeanTransport(httpx2.AsyncBaseTransport):
    """Sends requests over connections that it keeps, reuses and bounds. For one event loop.

    Args:
        max_connections: requests in flight at most; one more waits for the request's `pool` timeout.
        max_idle: connections kept for reuse, per origin.
        keep_s: how long each is kept.
        tls: how servers are verified; by default as httpx2 does.
    """

    def __init__(
        self, *, max_connections: int, max_idle: int = 100, keep_s: float = KEEP_S, tls: ssl.SSLContext | None = None
    ) -> None:
        self._given_tls, self._max_idle, self._keep_s = tls, max_idle, keep_s
        self._slots = asyncio.Semaphore(max_connections)
        self._idle = defaultdict[Origin, deque[Connection]](deque)
        self._open = set[Connection]()
        self._ending = set[asyncio.Task[None]]()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and give its response as soon as the head is there; the body follows as it comes."""
        timeouts = request.extensions.get("timeout", {})
        message = _head(request) + b"".join([part async for part in request.stream])  # type: ignore[union-attr]
        async with limited(timeouts.get("pool"), httpx2.PoolTimeout("too many requests are in flight")):
            await self._slots.acquire()
        connection = None
        try:
            if request.headers.get(RETRIES, "0") == "0":  # a try may have failed by the connection that was kept
                connection = self._kept(_origin(request.url))
            connection = connection or await self._connect(request.url, timeouts.get("connect"))
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
        await asyncio.gather(*self._ending)
        while self._open:
            await asyncio.wait([connection.lost for connection in self._open])
            self._open = {connection for connection in self._open if not connection.lost.done()}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = self._given_tls or httpx2.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _kept(self, origin: Origin) -> Connection | None:
        """Give the connection that was used last, and close those that may be forgotten at their other end."""
        idle, too_old = self._idle[origin], asyncio.get_running_loop().time() - self._keep_s
        while idle and idle[0].idle_since <= too_old:
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.is_reusable:
                return connection
        return None

    async def _connect(self, url: httpx2.URL, timeout_s: float | None) -> Connection:
        tls = self._tls if url.scheme == "https" else None
        port = url.port or (443 if tls else 80)
        late = httpx2.ConnectTimeout(f"no connection to {url.host}:{port} in {timeout_s} s")
        try:
            async with limited(timeout_s, late):
                _, connection = await asyncio.get_running_loop().create_connection(Connection, url.host, port, ssl=tls)
        except OSError as error:
            raise httpx2.ConnectError(f"{url.host}:{port}: {error}") from error
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        return connection

    def _release(self, connection: Connection | None, origin: Origin | None) -> None:
        self._slots.release()
        if connection is None:
            return
        if origin and connection.is_ending:
            task = asyncio.create_task(self._read_out(connection, origin))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
        else:
            self._keep(connection, origin)

    async def _read_out(self, connection: Connection, origin: Origin) -> None:
        """Keep a connection whose answer was heard out as soon as its body ends; whoever asked does not wait for it."""
        await connection.read_out(END_S)
        self._keep(connection, origin)

    def _keep(self, connection: Connection, origin: Origin | None) -> None:
        if origin and connection.is_reusable and len(self._idle[origin]) < self._max_idle:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle[origin].append(connection)
        else:
            connection.close()


class Body(httpx2.AsyncByteStream):
    """A response's body: yields what each socket read brought. Closing it early closes its connection."""

    def __init__(self, connection: Connection, transport: LeanTransport, origin: Origin) -> None:
        self._connection, self._transport, self._origin = connection, transport, origin
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        left = MAX_ERROR if connection.status >= 300 else inf
        while left > 0 and (data := await connection.read()):
            left -= len(data)
            yield data

    async def deliver(self, take: Take) -> None:
        """Hand each piece to `take` as it comes, and return at the body's end. Raises what `take` raised.

        `HeardOutError` says that nothing more is wanted, so that the connection can be kept when the body ends soon.
        """
        await self._connection.deliver(take)

    async def aclose(self) -> None:
        """Let the connection go: back to the idle ones if the body was read to its end, or heard out and ends soon."""
        if not self._closed:
            self._closed = True
            self._transport._release(self._connection, self._origin)


def _origin(url: httpx2.URL) -> Origin:
    return url.raw_scheme, url.raw_host, url.port


def _head(request: httpx2.Request) -> bytes:
    """Write a request's first line and headers."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    if any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines):
        raise httpx2.LocalProtocolError("a line break in a header; look at OPENAI_API_KEY")
    return b"\r\n".join([*lines, b"", b""])
