"""The lean transport uses a connection again when that is safe, and no other."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx2
import pytest

from app.connection import HeardOutError
from app.transport import END_S, LeanTransport
from tests.support.raw_http import playing, read_request, says
from tests.support.waiting import until_awaited

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def transport() -> LeanTransport:
    return LeanTransport(max_connections=2)


@pytest.fixture
async def http(transport: LeanTransport) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=transport, timeout=httpx2.Timeout(5)) as client:
        yield client


async def test_a_connection_is_used_again_when_its_answer_was_read_to_the_end(http: httpx2.AsyncClient) -> None:
    """And never after an answer that was left in the middle."""
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await says(OK + b"Content-Length: 5\r\n\r\nhello", keep_open=True)(reader, writer)

    async with playing(play) as url:
        assert [(await http.get(url)).content for _ in range(3)] == [b"hello"] * 3
        assert connections == 1
        async with http.stream("GET", url):
            pass  # the body is left unread
        await http.get(url)
        assert connections == 2


class Ends:
    """A server whose bodies end some time after their last word."""

    def __init__(self, ending: bytes, after_s: float) -> None:
        self._ending, self._after_s = ending, after_s
        self.connections, self.closed = 0, asyncio.Event()

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await read_request(reader)
                writer.write(CHUNKED + b"4\r\nlast\r\n")
                await asyncio.sleep(self._after_s)  # what is tested: the end comes later than the word
                writer.write(self._ending)
        self.closed.set()


async def hear_out(http: httpx2.AsyncClient, url: str) -> None:
    """Ask, and want no more after the last word."""

    def take(data: bytes) -> None:
        assert data == b"last"
        raise HeardOutError

    with pytest.raises(HeardOutError):
        async with http.stream("GET", url) as response:
            await response.extensions["deliver"](take)


@pytest.mark.parametrize("ending", [b"0\r\n\r\n", b"4\r\nmore\r\n0\r\nTrailer: x\r\n\r\n"])
async def test_an_answer_that_was_heard_out_leaves_its_connection_for_the_next(
    transport: LeanTransport, http: httpx2.AsyncClient, ending: bytes
) -> None:
    """The body's end, and what stands before it, comes with a later packet, which nobody waits for."""
    server = Ends(ending, after_s=0.05)
    async with playing(server.play) as url:
        for _ in range(3):
            await hear_out(http, url)
            await asyncio.gather(*transport._ending)
        assert server.connections == 1


async def test_an_end_that_does_not_follow_is_not_waited_for(http: httpx2.AsyncClient) -> None:
    """Its connection is closed after a moment, in which another request takes one of its own."""
    server = Ends(b"", after_s=0)
    async with playing(server.play) as url, asyncio.timeout(5):
        before = asyncio.get_running_loop().time()
        for _ in range(3):
            await hear_out(http, url)
        assert asyncio.get_running_loop().time() - before < END_S
        assert server.connections == 3
        await server.closed.wait()


async def test_a_transport_that_closes_waits_for_no_end(transport: LeanTransport, http: httpx2.AsyncClient) -> None:
    """It leaves no task behind."""
    async with playing(Ends(b"", after_s=0).play) as url:
        await hear_out(http, url)
        before = asyncio.get_running_loop().time()
        assert transport._ending
        await http.aclose()
        assert not transport._ending
        assert asyncio.get_running_loop().time() - before < END_S / 2


async def test_a_connection_is_not_kept_for_ever() -> None:
    """One that was idle too long is closed instead of used: what lies between may have forgotten it without a word."""
    connections, closed = 0, 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections, closed
        connections += 1
        await says(OK + b"Content-Length: 5\r\n\r\nhello", keep_open=True)(reader, writer)
        closed += 1

    async def all_but_one_are_closed() -> bool:
        return closed == connections - 1

    transport = LeanTransport(max_connections=1, keep_s=0)
    async with playing(play) as url, httpx2.AsyncClient(transport=transport) as http:
        for _ in range(3):
            assert (await http.get(url)).content == b"hello"
        await until_awaited(all_but_one_are_closed, "the older connections are closed")
        assert connections == 3


async def test_the_system_watches_a_silent_connection(transport: LeanTransport, http: httpx2.AsyncClient) -> None:
    """By TCP's own keep-alive."""
    async with playing(says(OK + b"Content-Length: 5\r\n\r\nhello", keep_open=True)) as url:
        await http.get(url)
        (connection,) = transport._open
        used = connection._transport.get_extra_info("socket")
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
