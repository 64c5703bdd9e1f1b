"""Viewers who are slow, or fail, or leave: nobody else notices, and the slow one loses nothing."""

import asyncio
import contextlib

import pytest

from tests.contract.backends import Streams
from tests.contract.moves import PATIENCE_S, content, ending, following, indexes, opened, watch, write

pytestmark = pytest.mark.anyio


async def test_a_slow_viewer_loses_nothing(streams: Streams) -> None:
    """One who takes nothing while hundreds of chunks pass finds them all afterwards, from the log."""
    task_id = await opened(streams)
    batches = following(streams, task_id)
    await write(streams, task_id, content(0))
    seen = list(await anext(batches))
    await write(streams, task_id, *(content(index) for index in range(1, 600)), ending(600))
    async with asyncio.timeout(PATIENCE_S):
        async for entries in batches:
            seen.extend(entries)
    assert indexes(seen) == list(range(601))


async def test_a_slow_viewer_does_not_slow_the_others(streams: Streams) -> None:
    """They have it all while it has not moved."""
    task_id = await opened(streams)
    stuck = following(streams, task_id)
    await anext(stuck)
    quick = [asyncio.create_task(watch(streams, task_id)) for _ in range(3)]
    await write(streams, task_id, *(content(index) for index in range(300)), ending(300))
    for viewer in quick:
        assert indexes(await viewer) == list(range(301))
    await stuck.aclose()


async def test_a_viewer_that_fails_or_leaves_disturbs_nobody(streams: Streams) -> None:
    """One raises in the middle, one is cancelled, one goes before its first batch: the last sees everything."""
    task_id = await opened(streams)

    async def fail() -> None:
        async with contextlib.aclosing(following(streams, task_id)) as batches:
            async for entries in batches:
                if entries:
                    raise RuntimeError("a viewer's own fault")

    failing = asyncio.create_task(fail())
    cancelled = asyncio.create_task(watch(streams, task_id))
    early = asyncio.create_task(watch(streams, task_id))
    staying = asyncio.create_task(watch(streams, task_id))
    early.cancel()
    await write(streams, task_id, *(content(index) for index in range(20)))
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(failing, PATIENCE_S)
    cancelled.cancel()
    await write(streams, task_id, *(content(index) for index in range(20, 40)), ending(40))
    assert indexes(await staying) == list(range(41))
    await asyncio.gather(cancelled, early, return_exceptions=True)
    assert indexes(await watch(streams, task_id)) == list(range(41))


async def test_a_disconnect_cancels_nothing(streams: Streams) -> None:
    """The producer does not even learn of it."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    await write(streams, task_id, content(0))
    viewer.cancel()
    await asyncio.gather(viewer, return_exceptions=True)
    assert not (await streams.writer.append(task_id, content(1))).cancelled


async def test_viewers_who_come_and_go_leave_no_task(streams: Streams) -> None:
    """A hundred of them later there are as many tasks as after the first."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))

    async def visit() -> None:
        async with contextlib.aclosing(following(streams, task_id)) as batches:
            await anext(batches)

    await visit()
    before = len(asyncio.all_tasks())
    for _ in range(100):
        await visit()
    assert len(asyncio.all_tasks()) <= before
