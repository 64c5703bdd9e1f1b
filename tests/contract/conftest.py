"""Every backend as one fixture parameter; the suite never names them. And the proof that no key lives for ever."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.contract.backends import NAMES, Streams, open_streams
from tests.support.redis7 import redis_binary
from tests.support.valkey import running_valkey
from tests.support.valkey_cluster import RunningCluster, running_cluster

QUICK_LEASE_S = 0.05
LEASE_S = 60.0
Make = Callable[[float], Awaitable[Streams]]


class Watched:
    """The servers that this run has started, each with a client that looks for keys which would live for ever."""

    def __init__(self) -> None:
        self._clients: list[redis.Redis] = []

    @contextlib.contextmanager
    def watching(self, *urls: str) -> Iterator[list[str]]:
        clients = [redis.Redis.from_url(url) for url in urls]
        self._clients += clients
        yield list(urls)
        for client in clients:
            self._clients.remove(client)
            client.close()

    def take_immortal(self) -> list[bytes]:
        """Give the keys without a TTL, and empty every server for the next test."""
        immortal = [key for client in self._clients for key in client.scan_iter() if client.ttl(key) == -1]
        for client in self._clients:
            client.flushall()
        return immortal


@pytest.fixture(scope="session")
def watched() -> Watched:
    return Watched()


@pytest.fixture(autouse=True)
def every_key_has_a_ttl(watched: Watched) -> Iterator[None]:
    """A test that leaves a key without a TTL fails."""
    yield
    assert watched.take_immortal() == [], "these keys would live for ever"


def _single(watched: Watched, binary: Path | None) -> Iterator[list[str]]:
    with running_valkey(binary) as server, watched.watching(server.url) as urls:
        yield urls


@pytest.fixture(scope="session")
def valkey(watched: Watched) -> Iterator[list[str]]:
    yield from _single(watched, None)


@pytest.fixture(scope="session")
def redis7(watched: Watched) -> Iterator[list[str]]:
    yield from _single(watched, redis_binary())


@pytest.fixture(scope="session")
def cluster(watched: Watched) -> Iterator[RunningCluster]:
    """Three nodes."""
    with running_cluster() as cluster, watched.watching(*(node.url for node in cluster.nodes)):
        yield cluster


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stores(backend: str, request: pytest.FixtureRequest) -> list[str]:
    """The URLs of the backend's chunk store, which is started when the first test needs it."""
    if backend == "pubsub-cluster":
        found: RunningCluster = request.getfixturevalue("cluster")
        return [node.url for node in found.nodes]
    single = {"valkey": "valkey", "redis": "redis7"}.get(backend.partition("-")[2])
    return list(request.getfixturevalue(single)) if single else []


@pytest.fixture
async def make_streams(backend: str, stores: list[str], database_url: str) -> AsyncIterator[Make]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(lease_s: float) -> Streams:
            return await stack.enter_async_context(open_streams(backend, database_url, stores, lease_s))

        yield make


@pytest.fixture
async def streams(make_streams: Make) -> Streams:
    """A backend whose leases outlast any test."""
    return await make_streams(LEASE_S)


@pytest.fixture
async def hasty_streams(make_streams: Make) -> Streams:
    """A backend whose leases run out at once."""
    return await make_streams(QUICK_LEASE_S)
