"""A worker's host that is cut off: what its viewers see, and what it finds when it is back."""

import asyncio

import pytest

from app.database import Database
from tests.hosts.network import Host
from tests.hosts.streams import insist, is_whole, posted_to, until_chunks, watch
from tests.hosts.system import System
from tests.support.client import Client, Event, text_of
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
CHUNKS = 60
SHORT_CHUNKS = 3
SHORT = f"ttft=0&gap=0&chunks={SHORT_CHUNKS}"
SCRIPT = f"ttft=0.02&gap=0.05&chunks={CHUNKS}"


async def until_fenced(hosts: System, client: Client, worker: str, before: float) -> None:
    """Wait until a worker has learned that its stream is another's."""

    async def is_fenced() -> bool:
        return await hosts.metric(client.http, worker, "fenced_attempts_total") > before

    await until_awaited(is_fenced, f"{worker} learns that it is fenced")


async def is_let_go(database: Database, host: Host) -> bool:
    async with database.driver() as connection:
        sessions = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = $1)"
        return not await connection.fetchval(sessions, host.address)


async def test_a_stream_is_begun_anew_on_another_host(hosts: System, at: dict[str, Client]) -> None:
    """Its viewer gets a reset and a second attempt; the worker that is back is fenced and has added nothing."""
    client = at["api-a"]
    posted = await posted_to(hosts, client, "worker-a", SCRIPT)
    before = await hosts.metric(client.http, "worker-a", "fenced_attempts_total")
    seen = list[Event]()
    viewer = asyncio.create_task(watch([client], posted.task_id, seen))
    await until_chunks(seen, 5)
    with hosts.host("worker-a").cut_off():
        await until_chunks(seen, 20)
    await until_fenced(hosts, client, "worker-a", before)
    await viewer
    assert is_whole(seen, CHUNKS)
    attempts = [event.record["attempt"] for event in seen]
    (reset,) = [place for place, event in enumerate(seen) if event.record["chunk_type"] == "reset"]
    assert set(attempts[:reset]) == {1}
    assert set(attempts[reset:]) == {2}
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]


async def test_a_message_that_a_lost_host_has_fetched_is_found_again(hosts: System, at: dict[str, Client]) -> None:
    """The broker gives a message to a worker that can no longer be told: it is enqueued again, and answered once."""
    client = at["api-a"]
    with hosts.host("worker-a").cut_off():
        posted = [await insist(client, SHORT) for _ in hosts.workers]
        seen = await asyncio.gather(*(watch([client], one.task_id) for one in posted))
    assert all(is_whole(events, SHORT_CHUNKS) for events in seen)


async def test_a_stream_that_no_host_can_go_on_with_is_ended(hosts: System, at: dict[str, Client]) -> None:
    """Lease and grace run out, and it fails as `producer_lost`; by then the database has let go of the hosts as well.

    What the workers say when they are back is not heard.
    """
    client = at["api-a"]
    posted = await posted_to(hosts, client, "worker-b", SCRIPT)
    before = await hosts.metric(client.http, "worker-b", "fenced_attempts_total")
    seen = list[Event]()
    viewer = asyncio.create_task(watch([client], posted.task_id, seen))
    await until_chunks(seen, 5)
    with hosts.host("worker-a").cut_off(), hosts.host("worker-b").cut_off():
        await viewer
        async with Database.connect(hosts.database_url, 1) as database:
            await until_awaited(lambda: is_let_go(database, hosts.host("worker-b")), "the host's sessions end")
    assert seen[-1].record["chunk_type"] == "failed"
    assert seen[-1].record["code"] == "producer_lost"
    await until_fenced(hosts, client, "worker-b", before)
    answer = await client.answer(posted)
    assert (answer["status"], answer["content"]) == ("failed", text_of(seen))
