"""The lean transport keeps the promises of the one it stands in for, towards servers good and bad."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import httpx2
import pytest
import trustme

from app.connection import BUFFER_BYTES
from app.transport import MAX_ERROR, LeanTransport
from tests.support.raw_http import playing, read_request, says
from tests.support.waiting import until_awaited

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    transport = LeanTransport(max_connections=2)
    async with httpx2.AsyncClient(transport=transport, timeout=httpx2.Timeout(5)) as client:
        yield client


@pytest.mark.parametrize(
    "pieces",
    [
        (OK + b"Content-Length: 5\r\n\r\nhello",),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",),
        (CHUNKED, b"2\r\nhe\r", b"\n3\r\nl", b"lo\r\n0\r", b"\n\r\n"),
        (OK + b"\r\nhel", b"lo"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"Content-Length: 5\r\n\r\n", b"hello"),
    ],
    ids=["sized", "chunked", "cut-anywhere", "until-close", "after-an-interim-head"],
)
async def test_every_way_to_frame_a_body(http: httpx2.AsyncClient, pieces: tuple[bytes, ...]) -> None:
    """Sized, chunked, until the close, cut at any byte, behind an interim response: the body is the same."""
    async with playing(says(*pieces)) as url:
        response = await http.post(url, content=b"question")
    assert (response.status_code, response.content) == (200, b"hello")


async def test_trailers_are_dropped(http: httpx2.AsyncClient) -> None:
    """However many there are: they are no headers of the response."""
    trailers = b"X-Trailer: x\r\n" * 100
    play = says(CHUNKED, b"5\r\nhello\r\n0\r\n", trailers, b"\r\n")
    async with playing(play) as url, http.stream("GET", url) as response:
        assert await response.aread() == b"hello"
        connection = response.extensions["deliver"].__self__._connection
        assert connection.headers == [(b"Transfer-Encoding", b"chunked")]


async def test_a_stream_is_handed_on_as_it_comes(http: httpx2.AsyncClient) -> None:
    """Each piece is read before the next is sent."""
    go = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for piece in (b"one", b"two", b"end"):
            writer.write((CHUNKED if piece == b"one" else b"") + b"3\r\n" + piece + b"\r\n")
            await go.wait()
            go.clear()
        writer.write(b"0\r\n\r\n")

    read = list[bytes]()
    async with playing(play) as url, http.stream("POST", url) as response:
        async for piece in response.aiter_raw():
            read.append(piece)
            go.set()
    assert read == [b"one", b"two", b"end"]


@pytest.mark.parametrize(
    ("pieces", "broken"),
    [
        ((CHUNKED, b"5\r\nhel"), "closed the connection in mid-answer"),
        ((OK + b"Content-Length: 50\r\n\r\nhello",), "closed the connection in mid-answer"),
        ((b"SSH-2.0-OpenSSH_9.2\r\n",), "does not speak HTTP"),
        ((), "closed the connection in mid-answer"),
    ],
    ids=["cut-chunk", "cut-body", "no-http", "no-answer"],
)
async def test_a_broken_answer_is_an_error_never_a_short_body(
    http: httpx2.AsyncClient, pieces: tuple[bytes, ...], broken: str
) -> None:
    """A connection that ends inside an answer raises; what came is not taken for the whole."""
    async with playing(says(*pieces)) as url:
        with pytest.raises(httpx2.RemoteProtocolError, match=broken):
            await http.post(url, content=b"question")


async def keep_sending(piece: bytes, head: bytes, writer: asyncio.StreamWriter) -> None:
    """Send a piece again and again, for as long as anybody takes it."""
    writer.write(head)
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()


@pytest.mark.parametrize(
    ("head", "piece"),
    [(OK, b"X-More: of the same\r\n" * 100), (OK + b"X-Long: ", b"x" * 1000), (b"", b"HTTP/1.1 103 Hint\r\n\r\n" * 50)],
    ids=["headers", "one-header", "interim-heads"],
)
async def test_an_endless_head_is_an_error(http: httpx2.AsyncClient, head: bytes, piece: bytes) -> None:
    """It keeps talking, so that no timeout would end it."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await keep_sending(piece, head, writer)

    async with playing(play) as url, asyncio.timeout(5):
        with pytest.raises(httpx2.RemoteProtocolError, match="head of over 64 KiB"):
            await http.get(url)


async def test_no_more_than_the_beginning_of_an_error_is_read(http: httpx2.AsyncClient) -> None:
    """Its connection goes with the rest."""
    closed = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        with contextlib.suppress(ConnectionError):
            await keep_sending(b"x" * 1000, b"HTTP/1.1 400 Bad Request\r\n\r\n", writer)
        closed.set()

    async with playing(play) as url, asyncio.timeout(5):
        response = await http.get(url)
        await closed.wait()
    assert response.status_code == 400
    assert MAX_ERROR <= len(response.content) < MAX_ERROR + 8 * BUFFER_BYTES


async def test_a_silent_server_runs_into_the_read_timeout(http: httpx2.AsyncClient) -> None:
    """Before its head and in the middle of its body; a slow one that keeps talking does not."""
    limit = httpx2.Timeout(5, read=0.2)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(CHUNKED)
        for _ in range(4):
            writer.write(b"1\r\n.\r\n")
            await asyncio.sleep(0.08)  # the pace that is tested: under the limit each, above it together
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with playing(says(b"", keep_open=True)) as url:
        with pytest.raises(httpx2.ReadTimeout, match=r"nothing for 0\.2 s"):
            await http.get(url, timeout=limit)
    async with playing(says(CHUNKED, b"1\r\n.\r\n", keep_open=True)) as url:
        with pytest.raises(httpx2.ReadTimeout):
            await http.get(url, timeout=limit)
    async with playing(slow) as url:
        assert (await http.get(url, timeout=limit)).content == b"...."


async def test_connections_are_bounded(http: httpx2.AsyncClient) -> None:
    """The third request of two waits for one to end, and gives up after its pool timeout."""
    async with playing(says(CHUNKED, b"1\r\n.\r\n", keep_open=True)) as url, http.stream("GET", url):
        async with http.stream("GET", url):
            with pytest.raises(httpx2.PoolTimeout):
                await http.get(url, timeout=httpx2.Timeout(5, pool=0.05))
        async with http.stream("GET", url) as response:
            assert response.status_code == 200


async def test_nobody_listening_is_a_connect_error(http: httpx2.AsyncClient) -> None:
    """It names the address."""
    async with playing(says()) as url:
        pass
    with pytest.raises(httpx2.ConnectError, match=r"127\.0\.0\.1"):
        await http.get(url)


async def test_a_reader_that_does_not_read_holds_the_sender_up(http: httpx2.AsyncClient) -> None:
    """Memory stays bounded: what is not read stays with the server; nothing is lost when reading goes on."""
    total, sent = 64 * BUFFER_BYTES, 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(OK + b"Content-Length: %d\r\n\r\n" % total)
        for _ in range(64):
            writer.write(b"x" * BUFFER_BYTES)
            await writer.drain()
            sent += BUFFER_BYTES

    async with playing(play) as url, http.stream("GET", url) as response:
        before = -1

        async def stands_still() -> bool:
            nonlocal before
            before, is_still = sent, sent == before
            return is_still

        await until_awaited(stands_still, "the server can't send on")
        assert sent < total / 2
        body = [len(piece) async for piece in response.aiter_raw()]
    assert sum(body) == total
    assert max(body) < 8 * BUFFER_BYTES


async def test_tls_is_verified() -> None:
    """A server whose certificate is trusted is talked to; any other is refused before a byte is said."""
    authority = trustme.CA()
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    async with playing(says(OK + b"Content-Length: 5\r\n\r\nhello"), tls=serving) as url:
        async with httpx2.AsyncClient(transport=LeanTransport(max_connections=1, tls=trusting)) as http:
            assert (await http.get(url)).content == b"hello"
        async with httpx2.AsyncClient(transport=LeanTransport(max_connections=1)) as http:
            with pytest.raises(httpx2.ConnectError, match="certificate"):
                await http.get(url)


async def test_a_header_can_not_smuggle_a_second_request(http: httpx2.AsyncClient) -> None:
    """A line break in a header, such as a key read from a file with its newline, is refused."""
    async with playing(says(OK + b"\r\n")) as url:
        with pytest.raises(httpx2.LocalProtocolError, match="OPENAI_API_KEY"):
            await http.get(url, headers={"Authorization": "Bearer x\r\nHost: y"})
