"""The nginx of production, a real one, before the real system: each chunk passes as soon as it comes."""

import asyncio
import contextlib
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx2
import pytest
import trustme

from ops.doctor.proxy import examine_proxy
from ops.ports import free_port, is_free
from ops.stack import Stack
from tests.ops.doctor.findings import troubles
from tests.support.client import Client
from tests.support.tools import tool
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parents[2] / "ops/nginx"


class Nginx:
    """A running one, its two ports, and who vouches for its certificate."""

    def __init__(self, folder: Path, upstream: str, **harm: str) -> None:
        self.plain, self.tls = free_port(), free_port()
        self.trust = ssl.create_default_context()
        authority = trustme.CA()
        authority.configure_trust(self.trust)
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(folder / "privkey.pem")
        for blob in certificate.cert_chain_pems:
            blob.write_to_path(folder / "fullchain.pem", append=True)
        places = {
            "/tmp/": f"{folder}/",
            "server api:8000 resolve": f"server {upstream}",
            "listen 8080": f"listen 127.0.0.1:{self.plain}",
            "listen 8443": f"listen 127.0.0.1:{self.tls}",
            "/etc/nginx/certificate": str(folder),
            "/dev/stderr": f"{folder}/error.log",
            "worker_processes auto": "worker_processes 1",
            "worker_connections 65536": "worker_connections 256",
            "worker_rlimit_nofile 131072": "worker_rlimit_nofile 1024",
        } | harm
        (folder / "tls").mkdir()
        for name in ("nginx.conf", "streams.conf", "tls/tls.conf"):
            text = (FOLDER / name).read_text()
            for here, there in places.items():
                text = text.replace(here, there)
            (folder / name).write_text(text)
        self.command = [tool("nginx", "nginx-light"), "-p", str(folder), "-c", "nginx.conf", "-g", "daemon off;"]


@contextlib.contextmanager
def running_nginx(upstream: str, **harm: str) -> Iterator[Nginx]:
    """Before an upstream, for the length of the block; as root its workers are nobody's, who must reach its folder."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        nginx = Nginx(Path(place), upstream, **harm)
        with subprocess.Popen(nginx.command) as process:
            try:
                until(lambda: not is_free(nginx.plain), "nginx listens")
                yield nginx
            finally:
                process.terminate()


@pytest.fixture
async def database(system: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(system.database_url)
    yield connection
    await connection.close()


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    """`nginx -t`, with TLS and HTTP/2."""
    nginx = Nginx(tmp_path, "127.0.0.1:1")
    done = subprocess.run([*nginx.command, "-t"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr


async def test_chunks_pass_unbuffered(system: Stack, database: asyncpg.Connection) -> None:
    """Each comes through when it comes directly, which the doctor measures; metrics do not come through at all."""
    with running_nginx(system.api_url.removeprefix("http://")) as nginx:
        through = f"http://127.0.0.1:{nginx.plain}"
        async with httpx2.AsyncClient(timeout=30) as http:
            assert await troubles(examine_proxy(http, through, system.api_url, database)) == {}
            assert (await http.get(f"{through}/metrics")).status_code == 404


@pytest.mark.parametrize(("host", "status"), [("localhost:8000", 200), ("evil.example", 421)])
async def test_another_name_leads_nowhere(system: Stack, host: str, status: int) -> None:
    """A web page whose name leads to this machine, for as long as that takes (DNS rebinding), reaches no API."""
    with running_nginx(system.api_url.removeprefix("http://")) as nginx:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{nginx.plain}") as http:
            assert (await http.get("/health", headers={"Host": host})).status_code == status


async def test_streams_pass_by_tls_and_http_2(system: Stack) -> None:
    """Whole, and over one connection where HTTP/1.1 would take one each."""
    with running_nginx(system.api_url.removeprefix("http://")) as nginx:
        command = ["openssl", "s_client", "-alpn", "h2,http/1.1", "-connect", f"127.0.0.1:{nginx.tls}"]
        hello = await asyncio.to_thread(subprocess.run, command, input=b"", capture_output=True, timeout=20)
        assert b"ALPN protocol: h2" in hello.stdout
        url = f"https://127.0.0.1:{nginx.tls}"
        async with httpx2.AsyncClient(base_url=url, timeout=30, verify=nginx.trust) as http:
            client = Client(http)
            events = await client.whole((await client.post()).task_id)
    assert [event.record["chunk_type"] for event in events] == ["content"] * 10 + ["done"]


async def test_the_settings_are_what_lets_them_pass(system: Stack, database: asyncpg.Connection) -> None:
    """The same nginx with buffers and compression on holds them back, also against our header; the doctor sees both."""
    harm = {
        "proxy_buffering off;": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
        "gzip off;": "gzip on; gzip_types text/event-stream; gzip_proxied any;",
    }
    with running_nginx(system.api_url.removeprefix("http://"), **harm) as nginx:
        through = f"http://127.0.0.1:{nginx.plain}"
        async with httpx2.AsyncClient(timeout=30) as http:
            found = await troubles(examine_proxy(http, through, system.api_url, database))
    assert set(found) == {f"proxy {through}", f"proxy {through} encoding"}
    assert "buffers" in found[f"proxy {through}"].finding
