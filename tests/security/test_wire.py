"""Attacks below the routes: requests that never end, that are two at once, or that are too many."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from app.api.access import is_loopback
from app.serve import may_listen
from app.settings import Settings
from tests.security.conftest import KEYS, Guarded
from tests.support.client import Client
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
HEAD = b"POST /conversations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
KEY = f"Authorization: Bearer {KEYS['ada']}\r\n".encode()


@contextlib.asynccontextmanager
async def connected(client: Client) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    url = client.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        yield reader, writer
    finally:
        writer.close()


UNFINISHED = {
    "silence": b"",
    "a line": b"GET / HT",
    "a head": b"GET / HTTP/1.1\r\nX-Slow: 1\r\n",
    "a body": HEAD + KEY + b"Content-Length: 100\r\n\r\n{",
    "chunks": HEAD + KEY + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a second request": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HT",
}


async def test_who_does_not_finish_is_hung_up_on(guarded: Guarded) -> None:
    """A request that is not whole within STREAMGAUGE_REQUEST_TIMEOUT_S holds its connection no longer."""
    ended = set[str]()

    async def until_hung_up(name: str, beginning: bytes) -> None:
        async with connected(guarded.nobody) as (reader, writer):
            writer.write(beginning)
            await reader.read()  # to its end
        ended.add(name)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            await asyncio.gather(*(until_hung_up(*each) for each in UNFINISHED.items()))
    assert ended == set(UNFINISHED)


async def test_an_empty_line_does_not_keep_a_connection(guarded: Guarded) -> None:
    """It ends uvicorn's own patience, which is for connections that say nothing; ours begins."""
    async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(4):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(b"\r\n")
        await reader.read()


async def test_dripping_does_not_help(guarded: Guarded) -> None:
    """A header every now and then is no sign of life."""
    async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(10):
        writer.write(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X-A: b\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.1)

        dripping = asyncio.create_task(drip())
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        dripping.cancel()


async def test_a_stream_outlives_the_requests_time_limit(guarded: Guarded) -> None:
    """That is for what comes in; an answer takes as long as it takes."""
    posted = await guarded.ada.post("ttft=0.02&gap=0.05&chunks=40")  # twice the limit
    assert (await guarded.ada.whole(posted.task_id))[-1].record["chunk_type"] == "done"


async def test_an_endless_head_is_refused(guarded: Guarded) -> None:
    """A header, a path, or ever more headers: it is not kept until the time is up."""
    for beginning, piece in (
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"x" * 4096),
        (b"GET /", b"x" * 4096),
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-One: more\r\n" * 300),
    ):
        async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(0.9):
            writer.write(beginning)
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    writer.write(piece)
                    await writer.drain()
            with contextlib.suppress(ConnectionError):
                answer = await reader.read()
                assert answer.split()[1] in {b"431", b"400"}, beginning


@pytest.mark.parametrize(("size", "status"), [(30_000, b"200"), (33_000, b"431"), (100_000, b"431")])
async def test_a_head_is_bounded_that_comes_in_one_piece(guarded: Guarded, size: int, status: bytes) -> None:
    """By the same 32 KiB; the connection ends, and what follows on it is not read."""
    async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(5):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: %b\r\n\r\n" % (b"x" * size))
        assert (await reader.readline()).split()[1] == status
        if status == b"431":
            with contextlib.suppress(ConnectionError):
                writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert b"HTTP/1.1" not in await reader.read()


SMUGGLED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


DOUBTFUL = (
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
    b"Content-Length: 2\r\nContent-Length: 40\r\n",
    b"Content-Length: +2\r\n",
    b"Content-Length: 2 2\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
)


async def test_a_request_whose_length_is_in_doubt_is_refused(guarded: Guarded) -> None:
    """A proxy in front may read it otherwise: 400, the connection ends, and what was hidden in it gets no answer."""
    for lengths in DOUBTFUL:
        async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(10):
            writer.write(HEAD + KEY + lengths + b"\r\n0\r\n\r\n" + SMUGGLED)
            with contextlib.suppress(ConnectionError):
                answers = await reader.read()
                assert answers.startswith(b"HTTP/1.1 400 "), (lengths, answers)
                assert answers.count(b"HTTP/1.1") == 1, (lengths, answers)


async def test_a_trailer_is_no_header(guarded: Guarded) -> None:
    """A key that comes after the body opens nothing."""
    async with connected(guarded.nobody) as (reader, writer), asyncio.timeout(10):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + KEY + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")


async def test_connections_are_so_many(guarded_settings: Settings) -> None:
    """One too many is closed at once; when others leave there is room again."""
    async with serving(guarded_settings.model_copy(update={"max_connections": 2})) as client:
        async with connected(client), connected(client) as (kept, _), connected(client) as (refused, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(refused.read(), 0.9) == b""
            assert not kept.at_eof()
        assert (await client.http.get("/health")).status_code == 200


async def test_every_answer_has_the_security_headers(guarded: Guarded) -> None:
    """Answers, errors and streams; nothing names the server, and no other origin may read."""
    posted = await guarded.ada.post("ttft=0&gap=0&chunks=1")
    headers = {"Origin": "https://elsewhere.example"}
    for path in ("/health", "/nowhere", f"/stream/{posted.task_id}", f"/conversations/{posted.conversation_id}", "/"):
        found = (await guarded.ada.http.get(path, headers=headers)).headers
        assert found["x-content-type-options"] == "nosniff"
        assert (found["x-frame-options"], found["referrer-policy"]) == ("DENY", "no-referrer")
        assert found["cross-origin-resource-policy"] == "same-origin"
        assert not {"server", "access-control-allow-origin"} & set(found)
    preflight = await guarded.nobody.http.options("/conversations", headers=headers)
    assert preflight.status_code == 405


def test_loopback_is_this_machine_alone() -> None:
    """By its addresses and its name; an address of every network is not."""
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "example.com", "localhost.example.com", "")))


def test_without_keys_only_this_machine_is_served() -> None:
    """Unless somebody says so: the server does not start, and says what to set."""
    command = [sys.executable, "-m", "app.serve", "--host", "0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, env={"PATH": ""})
    assert refused.returncode == 1
    assert {"STREAMGAUGE_API_KEYS", "STREAMGAUGE_OPEN=true"} <= set(refused.stderr.split())
    assert not any(may_listen(Settings(), host) for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"))
    assert may_listen(Settings(open=True), "0.0.0.0")
    assert may_listen(Settings(api_keys={"0" * 64: "ada"}), "0.0.0.0")
