"""Entries that are offered where they are heard: in order with those that come in batches, and nobody else's risk."""

import asyncio
import contextlib
from uuid import UUID

import pytest

from app.streaming.box import BOX_LIMIT, Box
from app.streaming.contract import ChunkType, Entry
from app.streaming.pushed import PushedReader
from tests.contract.backends import Streams
from tests.contract.moves import PATIENCE_S, content, ending, indexes, opened, reset, watch, write
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


class Viewer:
    """Follows a stream, and takes what it is offered as long as it likes to."""

    def __init__(self) -> None:
        self.seen = list[Entry]()
        self.taken = 0
        self.is_willing = True
        self.failure: Exception | None = None

    def take(self, entry: Entry) -> bool:
        if self.failure:
            raise self.failure
        if self.is_willing:
            self.seen.append(entry)
            self.taken += 1
        return self.is_willing

    async def follow(self, streams: Streams, task_id: UUID) -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            contextlib.aclosing(streams.reader.follow(task_id, 0, self.take)) as batches,
        ):
            async for entries in batches:
                self.seen.extend(entries)

    async def sees(self, count: int) -> None:
        async def is_so() -> bool:
            return len(self.seen) >= count

        await until_awaited(is_so, f"{count} entries are seen")


async def test_what_is_taken_at_once_is_not_yielded_again(streams: Streams) -> None:
    """Taken or yielded, refused for a while or not: every entry once, in order; a reset and a terminal are yielded."""
    task_id, viewer = await opened(streams), Viewer()
    following = asyncio.create_task(viewer.follow(streams, task_id))
    for index in range(0, 30, 3):
        viewer.is_willing = index % 2 == 0
        await write(streams, task_id, *(content(index + more) for more in range(3)))
        await viewer.sees(index + 3)
    await write(streams, task_id, reset(30, 1), ending(31))
    await following
    assert indexes(viewer.seen) == list(range(32))
    if isinstance(streams.reader, PushedReader):
        assert viewer.taken > 0
    assert viewer.seen[-1].kind is ChunkType.DONE


async def test_an_offer_that_fails_fails_its_own_viewer_only(streams: Streams) -> None:
    """Its follow raises, where there are offers; the others see everything, and one who comes after it, too."""
    task_id, failing = await opened(streams), Viewer()
    following = asyncio.create_task(failing.follow(streams, task_id))
    others = [asyncio.create_task(watch(streams, task_id)) for _ in range(2)]
    await write(streams, task_id, content(0))
    await failing.sees(1)
    failing.failure = RuntimeError("its own fault")
    await write(streams, task_id, *(content(index) for index in range(1, 20)), ending(20))
    for other in others:
        assert indexes(await other) == list(range(21))
    if isinstance(streams.reader, PushedReader):
        with pytest.raises(RuntimeError, match="its own fault"):
            await following
    else:
        await following
    assert indexes(await watch(streams, task_id)) == list(range(21))


def entry(index: int) -> Entry:
    return Entry(index, ChunkType.CONTENT, 0, b"{}")


async def test_nothing_is_offered_past_what_waits() -> None:
    """Once one entry was refused the rest queues behind it, bounded, until the listener waits again."""
    box, seen, is_willing = Box(), list[Entry](), False

    def offer(offered: Entry) -> bool:
        if is_willing:
            seen.append(offered)
        return is_willing

    assert await box.take(60, offer) is None, "the log comes first"
    taking = asyncio.create_task(box.take(60, offer))
    await asyncio.sleep(0)
    box.put(entry(0))
    is_willing = True
    for index in range(1, 3):
        box.put(entry(index))
    assert indexes(await taking or []) == [0, 1, 2]
    assert seen == []
    taking = asyncio.create_task(box.take(60, offer))
    await asyncio.sleep(0)
    box.put(entry(3))
    assert indexes(seen) == [3]
    is_willing = False
    for index in range(4, 4 + 2 * BOX_LIMIT):
        box.put(entry(index))
    assert await taking is None, "it must read the log"


async def test_what_is_taken_ends_a_silence() -> None:
    """The silence is counted from the last entry, taken or not."""
    box, now = Box(), asyncio.get_running_loop().time()
    await box.take(60)
    taking = asyncio.create_task(box.take(60, lambda _: True))
    await asyncio.sleep(0)
    box.put(entry(0))
    box.end_silence(now + 59)
    box.end_silence(now + 61)
    await asyncio.sleep(0)
    assert not taking.done()
    box.end_silence(now + 120)
    assert await taking == []
