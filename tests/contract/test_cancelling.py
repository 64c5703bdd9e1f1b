"""A cancel reaches the producer whenever it comes, and however the producer spends its time."""

import asyncio
import contextlib

import pytest

from app.streaming.contract import ChunkType
from tests.contract.backends import Streams
from tests.contract.moves import PATIENCE_S, begin, content, ending, indexes, opened, watch, write

pytestmark = pytest.mark.anyio


async def test_before_the_first_chunk(streams: Streams) -> None:
    """A cancel that came while the task was queued is heard as soon as the producer begins."""
    task_id = await streams.new()
    assert await streams.writer.cancel(task_id) == "open"
    await begin(streams, task_id)
    async with asyncio.timeout(PATIENCE_S):
        await streams.writer.wait_cancel(task_id)
    assert (await streams.writer.renew(task_id, 1)).cancelled
    assert (await streams.writer.append(task_id, content(0))).cancelled


async def test_in_the_middle(streams: Streams) -> None:
    """The next append says so, and is stored all the same; then the stream ends as `cancelled`."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    assert not (await streams.writer.append(task_id, content(0))).cancelled
    await streams.writer.cancel(task_id)
    assert (await streams.writer.append(task_id, content(1))).cancelled
    await write(streams, task_id, ending(2, ChunkType.CANCELLED))
    assert indexes(await viewer) == [0, 1, 2]
    assert await streams.writer.cancel(task_id) == "cancelled"


async def test_during_a_stall_of_the_model(streams: Streams) -> None:
    """A producer that has nothing to append hears of it by its control message, well before its lease is renewed."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    stalled = asyncio.create_task(streams.writer.wait_cancel(task_id))
    await asyncio.sleep(0)
    assert not stalled.done()
    await streams.writer.cancel(task_id)
    async with asyncio.timeout(2):
        await stalled


async def test_after_the_end(streams: Streams) -> None:
    """It answers how the stream ended, and changes nothing."""
    for kind in (ChunkType.DONE, ChunkType.FAILED, ChunkType.CANCELLED):
        task_id = await opened(streams)
        await write(streams, task_id, ending(0, kind))
        assert await streams.writer.cancel(task_id) == kind
        assert not (await streams.writer.append(task_id, ending(0, kind))).cancelled
        assert indexes(await watch(streams, task_id)) == [0]


async def test_twice(streams: Streams) -> None:
    """Harmless, at once or one after the other."""
    task_id = await opened(streams)
    assert await asyncio.gather(*(streams.writer.cancel(task_id) for _ in range(3))) == ["open"] * 3
    assert await streams.writer.cancel(task_id) == "open"
    assert (await streams.writer.append(task_id, ending(0, ChunkType.CANCELLED))).cancelled
    assert indexes(await watch(streams, task_id)) == [0]


async def test_a_cancel_outlives_the_attempt(streams: Streams) -> None:
    """The producer that takes over learns what its predecessor was told."""
    task_id = await opened(streams)
    await streams.writer.cancel(task_id)
    await begin(streams, task_id)
    assert (await streams.writer.renew(task_id, 2)).cancelled


async def test_two_attempts_in_one_process_both_hear(streams: Streams) -> None:
    """A redelivered task may run beside the one it replaces; neither takes the other's ear, one leaving or not."""
    task_id = await opened(streams)
    leaving, *waiting = [asyncio.create_task(streams.writer.wait_cancel(task_id)) for _ in range(3)]
    await asyncio.sleep(0)
    leaving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leaving
    await streams.writer.cancel(task_id)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*waiting)


async def test_only_the_stream_that_was_meant_hears(streams: Streams) -> None:
    """Its neighbours go on."""
    meant, other = await opened(streams), await opened(streams)
    ears = {task_id: asyncio.create_task(streams.writer.wait_cancel(task_id)) for task_id in (meant, other)}
    await streams.writer.cancel(meant)
    async with asyncio.timeout(PATIENCE_S):
        await ears[meant]
    assert not (await streams.writer.append(other, content(0))).cancelled
    assert not ears[other].done()
    ears[other].cancel()
    await asyncio.gather(ears[other], return_exceptions=True)
