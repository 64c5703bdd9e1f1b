"""Small HTTP servers that do harm: a proxy that buffers, a clock that is off, a model that refuses."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """The URL of a server on a free loopback port, for the length of the block."""

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def buffering_proxy(upstream: str) -> AsyncIterator[str]:
    """Passes a request on, and its response only when the upstream has sent all of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        parts = urlsplit(upstream)
        theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
        ours.write(head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        try:
            writer.write(await theirs.read())
            await writer.drain()
        finally:
            ours.close()

    async with listening(serve) as url:
        yield url


@contextlib.asynccontextmanager
async def answering(respond: Callable[[str], tuple[int, object]]) -> AsyncIterator[str]:
    """Answers each request with what `respond` says for its path: a status and a document."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        status, document = respond(head.split()[1].decode())
        body = json.dumps(document).encode()
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Type: application/json\r\n" % status)
        writer.write(b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async with listening(serve) as url:
        yield url
