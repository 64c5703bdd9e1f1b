"""A proxy that the environment names is used as other programs use it."""

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
import trustme

from app import llm
from app.speech import Delta
from tests.app.test_llm import EVENTS, QUESTION, STREAM, ask, check, connect
from tests.support.raw_http import Play, playing, read_request, says


@pytest.fixture(autouse=True)
def no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)


async def test_a_proxy_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy gets the request for a host that nobody else could find."""
    async with playing(says(STREAM + b"\r\n", EVENTS)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        check(await ask("http://model.invalid"))


async def test_a_server_that_needs_no_proxy_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `NO_PROXY` says; the proxy would answer nobody."""
    async with playing(says()) as proxy, playing(says(STREAM + b"\r\n", EVENTS)) as url:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        check(await ask(url))


def tunnels_to(port: int, asked: list[bytes]) -> Play:
    """A proxy that connects each client to this port, wherever it asked for."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await read_request(reader)).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            far_writer.close()

    return play


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()


async def test_tls_goes_through_a_proxy_unread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By CONNECT: the proxy learns the host's name, and the model proves that it is that host."""
    authority, serving = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("model.invalid").configure_cert(serving)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    asked = list[bytes]()
    async with (
        playing(says(STREAM + b"\r\n", EVENTS), tls=serving) as url,
        playing(tunnels_to(int(url.rpartition(":")[2]), asked)) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        check(await ask("https://model.invalid"))
    assert asked == [b"CONNECT model.invalid:443 HTTP/1.1"]


async def test_requests_through_a_proxy_have_the_same_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many may be in flight as without one, and the SDK's own bound, which is far lower, does not count."""
    running, most = 0, 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        await read_request(reader)
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.05)  # for others to come, if they may
        running -= 1
        writer.write(STREAM + b"\r\n" + EVENTS)

    monkeypatch.setattr(llm, "MAX_CONNECTIONS", 2)
    async with playing(play) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        async with connect("http://model.invalid") as model:
            heard = [list[Delta]() for _ in range(6)]
            await asyncio.gather(*[model.answer(QUESTION, deltas.append) for deltas in heard])
    for deltas in heard:
        check(deltas)
    assert most == 2
