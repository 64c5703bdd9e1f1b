"""A stream is not bound to the host it is produced on, nor to the one it is viewed through."""

import asyncio

import pytest

from app.streaming.backends import NAMES
from tests.hosts.streams import is_whole, posted_to, reaching, until_chunks, watch
from tests.hosts.system import KEEP_ALIVE_S, System
from tests.support.client import Client, Event, Posted, text_of

pytestmark = pytest.mark.anyio
CHUNKS = 40
DEAD_S = 2 * KEEP_ALIVE_S
"""A connection that is silent for longer is dead: no end of it is told."""
SCRIPT = f"ttft=0.02&gap=0.05&chunks={CHUNKS}"


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
        await until_chunks(seen, 5)
        with hosts.host("api-a").cut_off():
            await viewer
    assert is_whole(seen, CHUNKS)
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]
