"""A stream is not bound to the host it is produced on, nor to the one it is viewed through."""

import asyncio

import pytest

from app.streaming.backends import NAMES
from tests.hosts.streams import is_whole, posted_to, until_chunks, watch
from tests.hosts.system import System
from tests.support.client import Client, Event, text_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]
CHUNKS = 40
SCRIPT = f"ttft=0.02&gap=0.05&chunks={CHUNKS}"


@pytest.mark.parametrize("backend", NAMES)
async def test_a_stream_is_read_whole_through_any_host(hosts: System, at: dict[str, Client], backend: str) -> None:
    """It was posted at one API's host, is produced on a worker's, and is viewed through another API's."""
    posted = await posted_to(hosts, at["api-a"], "worker-a", SCRIPT, backend)
    events = await at["api-b"].whole(posted.task_id)
    assert is_whole(events, CHUNKS)
    assert text_of(events) == (await at["api-b"].answer(posted))["content"]


async def test_a_viewer_goes_on_at_another_host(hosts: System, at: dict[str, Client]) -> None:
    """Its API's host is cut off in mid-stream; it comes back elsewhere with its last id and gets every chunk once."""
    posted = await at["api-a"].post(SCRIPT, backend="pubsub")
    seen = list[Event]()
    viewer = asyncio.create_task(watch([at["api-a"], at["api-b"]], posted.task_id, seen))
    await until_chunks(seen, 5)
    with hosts.host("api-a").cut_off():
        assert await viewer is seen
    assert is_whole(seen, CHUNKS)
    assert text_of(seen) == (await at["api-b"].answer(posted))["content"]
