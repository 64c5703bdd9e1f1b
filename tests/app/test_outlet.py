"""A viewer's way out below ASGI: in order with what goes through ASGI, bounded, and deaf once the viewer has left."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.outlet import AsgiOutlet, Outlet, SocketOutlet, SocketProtocol, outlet_of
from tests.support.garbage import living, uncollected
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
Play = Callable[[Outlet], Awaitable[None]]
BUFFERS = 8 << 20
"""More than the kernel keeps for one loopback connection."""


@contextlib.asynccontextmanager
async def answering(play: Play, protocol: type[HttpToolsProtocol] = SocketProtocol) -> AsyncIterator[tuple[str, int]]:
    """Serve a response that `play` makes on its outlet; gives the address."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await play(outlet_of(scope, receive, send))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, http=protocol, lifespan="off", log_level="error"))
        serving = asyncio.create_task(server.serve([listener]))

        async def is_up() -> bool:
            return server.started

        try:
            await until_awaited(is_up, "the server listens")
            yield listener.getsockname()
        finally:
            server.should_exit = True
            await serving


async def ask(address: tuple[str, int], method: bytes = b"GET") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(method + b" / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    return reader, writer


def body_of(response: bytes) -> bytes:
    """Join the chunks of a whole response."""
    rest, body = response.partition(b"\r\n\r\n")[2], b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if not int(size, 16):
            return body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


async def test_both_ways_out_keep_one_order() -> None:
    """What is offered and what is sent arrives as it was called, as a well-formed chunked body."""

    async def play(outlet: Outlet) -> None:
        for number in range(100):
            if number % 3:
                assert outlet.offer(b"%d," % number)
            else:
                await outlet.send(b"%d," % number)

    async with answering(play) as address:
        reader, writer = await ask(address)
        assert body_of(await reader.read()) == b"".join(b"%d," % number for number in range(100))
        writer.close()


async def test_a_full_socket_is_offered_no_more() -> None:
    """Who does not read is held to its buffers; what was refused goes through the send that waits, and all arrives."""
    piece, seen = b"x" * 10_000, {"pieces": 0}

    async def play(outlet: Outlet) -> None:
        while outlet.offer(piece):
            seen["pieces"] += 1
            assert seen["pieces"] * len(piece) < BUFFERS
            await asyncio.sleep(0)  # a turn for the loop, which writes
        assert not outlet.offer(piece)
        seen["refused"] = 1
        await outlet.send(b"the end")

    async with answering(play) as address:
        reader, writer = await ask(address)

        async def is_full() -> bool:
            return "refused" in seen

        await until_awaited(is_full, "the socket is full")
        assert body_of(await reader.read()) == piece * seen["pieces"] + b"the end"
        writer.close()


async def test_who_has_left_is_offered_nothing() -> None:
    """`left` is called once, whether the leaving comes before or after it is watched; no offer raises."""
    calls, over = list[str](), asyncio.Event()

    async def play(outlet: Outlet) -> None:
        outlet.watch(lambda: calls.append("left"))
        while not calls:
            outlet.offer(b"word")
            await asyncio.sleep(0)  # a turn for the loop, which hears of the leaving
        assert not outlet.offer(b"word")
        outlet.forget()
        outlet.watch(lambda: calls.append("had left"))
        over.set()

    async with answering(play) as address:
        reader, writer = await ask(address)
        await reader.readuntil(b"word")
        writer.transport.abort()
        await asyncio.wait_for(over.wait(), 10)
    assert calls == ["left", "had left"]


@pytest.mark.parametrize(
    ("protocol", "method", "kind"),
    [
        (SocketProtocol, b"GET", SocketOutlet),
        (SocketProtocol, b"HEAD", AsgiOutlet),
        (HttpToolsProtocol, b"GET", AsgiOutlet),
    ],
)
async def test_where_the_socket_is_not_ours_asgi_is_the_way(protocol: Any, method: bytes, kind: type[Outlet]) -> None:
    """For a HEAD, and on a server that has no such extension; leaving is noticed there as well."""
    left, kinds = asyncio.Event(), list[type]()

    async def play(outlet: Outlet) -> None:
        kinds.append(type(outlet))
        assert outlet.offer(b"offered ") == (kind is SocketOutlet)
        await outlet.send(b"sent")
        outlet.watch(left.set)
        await left.wait()
        outlet.forget()

    async with answering(play, protocol) as address:
        reader, writer = await ask(address, method)
        await reader.readuntil(b"sent" if method == b"GET" else b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(left.wait(), 10)
    assert kinds == [kind]


async def test_a_connection_that_is_over_is_freed_without_a_collection() -> None:
    """With its request's scope and headers: a full collection would hold up every stream of the process."""

    async def play(outlet: Outlet) -> None:
        assert outlet.offer(b"all")

    async def is_freed() -> bool:
        return not living(SocketProtocol)

    async with answering(play) as address:
        with uncollected():
            reader, writer = await ask(address)
            assert body_of(await reader.read()) == b"all"
            writer.close()
            await until_awaited(is_freed, "nobody holds the connection")
