"""What a viewer sees: from where it asks, in order, no hole, no repeat, and then the end. Whenever it comes."""

import asyncio
import contextlib

import pytest

from app.streaming.contract import Entry
from tests.contract.backends import Streams
from tests.contract.moves import PATIENCE_S, begin, content, ending, following, indexes, opened, status_of, watch, write

pytestmark = pytest.mark.anyio


async def first_batch(streams: Streams, task_id: object, start: int = 0) -> list[Entry]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(aiter(streams.reader.follow(task_id, start)))  # type: ignore[arg-type]


async def test_a_viewer_may_come_before_the_producer(streams: Streams) -> None:
    """It waits, and misses nothing."""
    task_id = await streams.new()
    viewer = asyncio.create_task(watch(streams, task_id))
    assert await first_batch(streams, task_id) == []
    await begin(streams, task_id)
    await write(streams, task_id, content(0), ending(1))
    assert indexes(await viewer) == [0, 1]


async def test_a_late_viewer_gets_the_log_and_what_follows(streams: Streams) -> None:
    """It comes in the middle and sees the beginning."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    viewer = asyncio.create_task(watch(streams, task_id))
    assert indexes(await first_batch(streams, task_id)) == [0, 1]
    await write(streams, task_id, content(2), ending(3))
    assert indexes(await viewer) == [0, 1, 2, 3]


async def test_a_viewer_after_the_end_gets_all_of_it(streams: Streams) -> None:
    """Or what follows the index that it asks for."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1), ending(2))
    for start in (0, 1, 2):
        assert indexes(await watch(streams, task_id, start)) == list(range(start, 3))


@pytest.mark.parametrize("start", [1, 5])
async def test_a_viewer_of_what_can_never_come_is_not_kept_waiting(streams: Streams, start: int) -> None:
    """Whoever asks for more than there will ever be is sent home when the stream ends, or at once if it has."""
    task_id = await opened(streams)
    early = asyncio.create_task(watch(streams, task_id, start))
    await write(streams, task_id, ending(0))
    assert await early == []
    assert await watch(streams, task_id, start) == []


async def test_a_viewer_may_ask_for_what_is_next(streams: Streams) -> None:
    """A client that has everything so far sees only what is new."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    viewer = asyncio.create_task(watch(streams, task_id, 2))
    await write(streams, task_id, content(2), ending(3))
    assert indexes(await viewer) == [2, 3]


async def test_silence_is_told(streams: Streams) -> None:
    """A viewer of a silent stream hears an empty batch now and then, so that it can look after the producer."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    silences = 0
    async with contextlib.aclosing(following(streams, task_id)) as batches, asyncio.timeout(PATIENCE_S):
        async for entries in batches:
            silences += not entries
            if silences == 2:
                break
    assert (await status_of(streams, task_id)).state == "open"


async def test_many_viewers_share_one_stream(streams: Streams) -> None:
    """Each of them sees all of it, from wherever it began."""
    task_id = await opened(streams)
    viewers = [asyncio.create_task(watch(streams, task_id, start % 5)) for start in range(40)]
    await write(streams, task_id, *(content(index) for index in range(20)), ending(20))
    for place, viewer in enumerate(viewers):
        assert indexes(await viewer) == list(range(place % 5, 21))
