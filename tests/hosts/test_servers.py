"""Servers that are out of reach for a while: no connection breaks, nothing answers, and then all does again."""

import asyncio

import pytest

from tests.hosts.network import parted
from tests.hosts.streams import is_whole, posted_to, until_chunks, watch
from tests.hosts.system import System
from tests.support.client import Client, Event, text_of

pytestmark = pytest.mark.anyio
CHUNKS = 60
SCRIPT = f"ttft=0.02&gap=0.05&chunks={CHUNKS}"


async def test_an_api_that_loses_the_store_catches_up(hosts: System, at: dict[str, Client]) -> None:
    """The viewers at the other host notice nothing; its own get what they missed when it is back."""
    posted = await at["api-a"].post(SCRIPT, backend="pubsub")
    seen = {name: list[Event]() for name in at}
    viewers = {name: asyncio.create_task(watch([client], posted.task_id, seen[name])) for name, client in at.items()}
    await asyncio.gather(*(until_chunks(events, 5) for events in seen.values()))
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
    await until_chunks(seen, 5)
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
    await until_chunks(seen, 5)
    with hosts.host("database").cut_off():
        await until_chunks(seen, CHUNKS - 10)
    await viewer
    assert is_whole(seen, CHUNKS)
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]
