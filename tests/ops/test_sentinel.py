"""The whole system behind Sentinel: its master is killed, replaced, comes back, and is moved on purpose, under load."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx2
import pytest
import redis

from app.streaming import keys
from ops.doctor.examination import Subject, examine
from ops.ports import without_password
from ops.stack import Stack, StackOptions, running_stack
from tests.app.test_away import settings_of
from tests.hosts.streams import insist, is_whole, until_said, watch
from tests.support.client import Client, Event
from tests.support.valkey import RunningValkey
from tests.support.valkey_sentinel import NAME, RunningSentinels, role, running_sentinels
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.anyio

CHUNKS, GAP_S = 130, 0.03
LONG, SHORT = f"ttft=0&gap={GAP_S}&chunks={CHUNKS}", "ttft=0&gap=0&chunks=3"
QUICK = {
    "STREAMGAUGE_STORE_BACK_S": "0.2",
    "STREAMGAUGE_TIDY_EVERY_S": "1",
    "STREAMGAUGE_KEEP_ALIVE_S": "1",
    "STREAMGAUGE_API_DRAIN_S": "0",
    "STREAMGAUGE_WORKER_DRAIN_S": "0",
}


@pytest.fixture(scope="module")
def servers() -> Iterator[RunningSentinels]:
    with running_sentinels() as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def stack(servers: RunningSentinels, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An API and a worker, whose chunk store and broker are the same master."""
    given = os.environ | QUICK | {"REDIS_URL": servers.url, "BROKER_URL": servers.url, "DATABASE_URL": database_url}
    options = StackOptions(tmp_path_factory.mktemp("stack"), port=0, keep_data=False, environment=given)
    with running_stack(options) as running:
        yield running


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    """A viewer of it."""
    async with httpx2.AsyncClient(base_url=stack.api_url, timeout=15) as http:
        yield Client(http)


class Views:
    """Streams under way, half of each backend that is kept in the store, and what a viewer of each has seen."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._seen: list[list[Event]] = []
        self._watching: list[asyncio.Task[list[Event]]] = []

    async def begin(self, number: int) -> None:
        for place in range(number):
            posted = await insist(self._client, LONG, ("pubsub", "streams")[place % 2])
            self._seen.append([])
            self._watching.append(asyncio.create_task(watch([self._client], posted.task_id, self._seen[-1])))
        await asyncio.gather(*(until_said(seen, 5) for seen in self._seen))

    async def assert_whole(self) -> None:
        async with asyncio.timeout(60):
            for events in await asyncio.gather(*self._watching):
                assert is_whole(events, CHUNKS), [event.record for event in events][-5:]
                assert {event.record["attempt"] for event in events} == {1}


async def assert_new_streams_flow(client: Client, master: RunningValkey) -> None:
    """Messages are answered over this server again, which is the master."""
    assert role(master) == "master"

    async def flows() -> bool:
        posted = await insist(client, SHORT)
        assert is_whole(await watch([client], posted.task_id), 3)
        with master.client() as store:
            return bool(store.exists(keys.meta_key(UUID(posted.task_id))))

    await until_awaited(flows, f"a stream lives in the server at {master.port}")


def test_no_password_of_a_url_is_shown() -> None:
    """Neither the servers' nor the sentinels'."""
    url = "redis+sentinel://ann:s%40fe@one:1,[::1]:2/main/0?sentinel_username=bob&sentinel_password=d%26or&db=1"
    shown = "redis+sentinel://ann:…@one:1,[::1]:2/main/0?sentinel_username=bob&sentinel_password=…&db=1"
    assert without_password(url) == shown
    assert without_password("postgresql://ann:safe@one/db") == "postgresql://ann:…@one/db"


async def test_the_doctor_finds_its_way(servers: RunningSentinels, stack: Stack) -> None:
    """To the store, to the broker, and to the workers, whom it asks over the master."""
    settings = settings_of(stack, broker_url=stack.broker_url, openai_api_key="scripted")
    found = {finding.check: finding for finding in await examine(Subject(settings, (stack.api_url,)))}
    canary = f"canary {stack.api_url}"
    for check in ("store.sentinels", "store.role", "workers.answer", "workers.queue", canary):
        assert found[check].is_well, found[check]


async def test_a_killed_master_costs_no_stream_a_token(servers: RunningSentinels, client: Client) -> None:
    """What runs ends whole for its viewers, in one attempt; new streams flow through the replica that took over.

    The old master comes back as a replica of it, while streams run, and nothing changes.
    """
    before, after = servers.now()
    await assert_new_streams_flow(client, before)
    views = Views(client)
    await views.begin(8)
    before.kill()
    await asyncio.to_thread(servers.wait_for, after)
    await views.assert_whole()
    await assert_new_streams_flow(client, after)
    views = Views(client)
    await views.begin(4)
    before.start()
    await asyncio.to_thread(until, lambda: role(before) == "slave", "the old master is a replica")
    await views.assert_whole()
    await assert_new_streams_flow(client, after)
    assert servers.named() == {after.port}


async def test_a_master_that_is_moved_on_purpose_costs_no_stream_a_token(
    servers: RunningSentinels, client: Client
) -> None:
    """It stays alive and refuses to write from then on; nobody keeps to it."""
    _, after = servers.now()
    views = Views(client)
    await views.begin(4)
    with redis.Redis(port=servers.ports[0]) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", NAME)
    await asyncio.to_thread(servers.wait_for, after)
    await views.assert_whole()
    await assert_new_streams_flow(client, after)
