"""An API process that is asked to stop lets its streams run on for a while, and sends the rest elsewhere."""

import asyncio
import contextlib

import pytest

from app.streaming.backends import NAMES
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.client import Event, text_of
from tests.support.serving import serving

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("backend", NAMES)
async def test_a_stopping_process_sends_its_viewers_to_another_one(system: Stack, backend: str) -> None:
    """They resume there with their last event id: no chunk is lost, none comes twice, and nobody waits for the end."""
    settings = settings_of(system, api_drain_s=0.2)
    before = list[Event]()
    async with serving(settings) as there:
        async with contextlib.AsyncExitStack() as stopping:
            here = await stopping.enter_async_context(serving(settings))
            posted = await here.post(backend=backend, script="ttft=0.05&gap=0.02&chunks=150")
            begun = asyncio.Event()

            async def view() -> None:
                async for event in here.follow(posted.task_id):
                    before.append(event)
                    begun.set()

            viewing = asyncio.create_task(view())
            await begun.wait()
        await viewing  # ended in order: a connection that breaks would have raised
        assert not before[-1].is_terminal
        after = await there.whole(posted.task_id, **{"Last-Event-ID": str(before[-1].record["chunk_index"])})
        indexes = [event.record["chunk_index"] for event in (*before, *after)]
        assert indexes == list(range(len(indexes)))
        assert text_of([*before, *after]) == (await there.answer(posted))["content"]


async def test_a_stream_that_ends_within_the_drain_is_seen_to_its_end(system: Stack) -> None:
    """The deadline is for the long ones: a short answer is not cut."""
    settings = settings_of(system, api_drain_s=10)
    async with contextlib.AsyncExitStack() as stopping:
        client = await stopping.enter_async_context(serving(settings))
        posted = await client.post(script="ttft=0.05&gap=0.02&chunks=40")
        begun, events = asyncio.Event(), list[Event]()

        async def view() -> None:
            async for event in client.follow(posted.task_id):
                events.append(event)
                begun.set()

        viewing = asyncio.create_task(view())
        await begun.wait()
    await viewing
    assert events[-1].record["chunk_type"] == "done"
