"""Streams over several hosts, some of them cut off in mid-stream. One file, as they share the hosts."""

import asyncio
import contextlib

import pytest

from app.database import Database, DatabaseUnavailableError
from app.records import Records
from app.streaming.backends import NAMES
from tests.hosts.network import Host, parted
from tests.hosts.streams import AGAIN_IN_S, insist, is_whole, posted_to, reaching, until_said, watch
from tests.hosts.system import KEEP_ALIVE_S, System
from tests.support.client import Client, Event, Posted, text_of
from tests.support.waiting import until_awaited

pytestmark = [pytest.mark.anyio, pytest.mark.long, pytest.mark.usefixtures("all_is_as_before")]
CHUNKS = 60
SCRIPT = f"ttft=0.02&gap=0.05&chunks={CHUNKS}"
SHORT_CHUNKS = 3
SHORT = f"ttft=0&gap=0&chunks={SHORT_CHUNKS}"
DEAD_S = 2 * KEEP_ALIVE_S
"""A connection that is silent for longer is dead: no end of it is told."""
LOST_S = 3.0
REPAIRS = 77
"""A lock like the one under which one API repairs at a time; the APIs themselves leave this one alone."""


async def until_fenced(hosts: System, client: Client, worker: str, before: float) -> None:
    """Wait until a worker has learned that its stream is another's."""

    async def is_fenced() -> bool:
        return await hosts.metric(client.http, worker, "fenced_attempts_total") > before

    await until_awaited(is_fenced, f"{worker} learns that it is fenced", AGAIN_IN_S)


async def is_let_go(database: Database, host: Host) -> bool:
    async with database.driver() as connection:
        sessions = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = $1)"
        return not await connection.fetchval(sessions, host.address)


async def test_a_stream_is_read_whole_through_any_host(hosts: System, at: dict[str, Client]) -> None:
    """It was posted at one API's host, is produced on a worker's, and is viewed through another API's."""

    async def view(backend: str, posted: Posted) -> None:
        events = await at["api-b"].whole(posted.task_id)
        assert is_whole(events, CHUNKS), backend
        assert text_of(events) == (await at["api-b"].answer(posted))["content"], backend

    async with asyncio.TaskGroup() as group:
        for backend in NAMES:
            posted = await posted_to(hosts, at["api-a"], "worker-a", SCRIPT, backend)
            group.create_task(view(backend, posted))


async def test_a_viewer_goes_on_at_another_host(hosts: System, at: dict[str, Client]) -> None:
    """Its API's host is cut off in mid-stream; it comes back elsewhere with its last id and gets every chunk once."""
    posted = await at["api-a"].post(SCRIPT, backend="pubsub")
    seen = list[Event]()
    async with reaching(hosts, DEAD_S) as clients:
        viewer = asyncio.create_task(watch([clients["api-a"], clients["api-b"]], posted.task_id, seen))
        await until_said(seen, 5)
        with hosts.host("api-a").cut_off():
            await viewer
    assert is_whole(seen, CHUNKS)
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]


async def test_an_api_that_loses_the_store_catches_up(hosts: System, at: dict[str, Client]) -> None:
    """The viewers at the other host notice nothing; its own get what they missed when it is back."""
    posted = await at["api-a"].post(SCRIPT, backend="pubsub")
    seen = {name: list[Event]() for name in at}
    viewers = {name: asyncio.create_task(watch([client], posted.task_id, seen[name])) for name, client in at.items()}
    await asyncio.gather(*(until_said(events, 5) for events in seen.values()))
    with parted(hosts.host("api-a"), hosts.host("store")):
        await viewers["api-b"]
        assert not viewers["api-a"].done()
    await viewers["api-a"]
    for name, events in seen.items():
        assert is_whole(events, CHUNKS), name
        assert {event.record["attempt"] for event in events} == {1}, name


async def test_workers_that_lose_the_store_hand_their_streams_over(hosts: System, at: dict[str, Client]) -> None:
    """The store is out of everybody's reach: the stream goes on in the database, and its viewer follows it there."""
    client = at["api-a"]
    posted = await posted_to(hosts, client, "worker-a", SCRIPT)
    seen = list[Event]()
    viewer = asyncio.create_task(watch([client, at["api-b"]], posted.task_id, seen))
    await until_said(seen, 5)
    with hosts.host("store").cut_off():
        await viewer
    assert is_whole(seen, CHUNKS)
    answer = await client.answer(posted)
    assert (answer["backend"], answer["content"]) == ("polling", text_of(seen))


async def test_a_database_out_of_reach_stops_no_stream(hosts: System, at: dict[str, Client]) -> None:
    """A stream in the chunk store goes on without it, and ends when its message is committed after all."""
    client = at["api-a"]
    posted = await posted_to(hosts, client, "worker-a", SCRIPT)
    seen = list[Event]()
    viewer = asyncio.create_task(watch([client], posted.task_id, seen))
    await until_said(seen, 5)
    with hosts.host("database").cut_off():
        await until_said(seen, CHUNKS - 20)
    await viewer
    assert is_whole(seen, CHUNKS)
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]


async def test_a_stream_is_begun_anew_on_another_host(hosts: System, at: dict[str, Client]) -> None:
    """Its viewer gets a reset and a second attempt; the worker that is back is fenced and has added nothing."""
    client = at["api-a"]
    posted = await posted_to(hosts, client, "worker-a", SCRIPT)
    before = await hosts.metric(client.http, "worker-a", "fenced_attempts_total")
    seen = list[Event]()
    viewer = asyncio.create_task(watch([client], posted.task_id, seen))
    await until_said(seen, 5)
    with hosts.host("worker-a").cut_off():
        await until_said(seen, 20)
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
    await until_said(seen, 5)
    with hosts.host("worker-a").cut_off(), hosts.host("worker-b").cut_off():
        await viewer
        async with Database.connect(hosts.database_url, 1) as database:
            await until_awaited(lambda: is_let_go(database, hosts.host("worker-b")), "the host's sessions end")
    assert seen[-1].record["chunk_type"] == "failed"
    assert seen[-1].record["code"] == "producer_lost"
    await until_fenced(hosts, client, "worker-b", before)
    answer = await client.answer(posted)
    assert (answer["status"], answer["content"]) == ("failed", text_of(seen))


async def test_a_host_that_is_cut_off_does_not_keep_its_locks(hosts: System, viewers: Host) -> None:
    """It was the one that repairs; soon another host may, though no connection was closed."""
    lost = hosts.host("worker-a")
    async with (
        Database.connect(hosts.database_url, 1, LOST_S) as theirs,
        Database.connect(hosts.database_url, 1) as ours,
    ):

        async def is_free() -> bool:
            async with Records(ours).alone(REPAIRS) as is_alone:
                return is_alone

        with lost.inside(), contextlib.suppress(DatabaseUnavailableError):
            async with Records(theirs).alone(REPAIRS) as is_alone:
                assert is_alone
                with lost.cut_off(), viewers.inside():
                    assert not await is_free()
                    await until_awaited(is_free, "the lock is free", 3 * LOST_S)
