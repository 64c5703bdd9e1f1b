"""The stream contract, stated once and run over every backend. Read in order, it is a tutorial."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.streaming.contract import (
    Chunk,
    ChunkType,
    Entry,
    Outcome,
    StreamMissingError,
    StreamOverError,
    decode,
)
from tests.contract.conftest import Streams
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


def content(index: int, text: str = "word ", attempt: int = 1) -> Chunk:
    return Chunk(index, ChunkType.CONTENT, text, attempt, 1, 1_700_000_000_123_456_789 + index)


def ending(index: int, kind: ChunkType = ChunkType.DONE, attempt: int = 1) -> Chunk:
    if kind is ChunkType.DONE:
        return Chunk(index, kind, "", attempt, 0, 5, finish_reason="stop", usage={"total_tokens": 7})
    if kind is ChunkType.FAILED:
        return Chunk(index, kind, "", attempt, 0, 5, code="producer_lost", retryable=True)
    return Chunk(index, kind, "", attempt, 0, 5)


async def watch(streams: Streams, task_id: UUID, start: int = 0) -> list[Entry]:
    """Follow a stream to its end."""
    seen: list[Entry] = []
    async with asyncio.timeout(20):
        async for entries in streams.reader.follow(task_id, start):
            seen.extend(entries)
    return seen


async def write(streams: Streams, task_id: UUID, chunks: Sequence[Chunk]) -> None:
    for chunk in chunks:
        assert (await streams.writer.append(task_id, chunk)).outcome is Outcome.OK


async def opened(streams: Streams) -> UUID:
    task_id = await streams.new()
    await streams.writer.open(task_id)
    return task_id


async def expired(streams: Streams, task_id: UUID) -> None:
    async def is_over() -> bool:
        status = await streams.reader.status(task_id)
        return status is not None and status.lease_left_s < 0

    await until_awaited(is_over, "the lease runs out")


async def test_a_viewer_sees_every_chunk_in_order_and_then_the_end(streams: Streams) -> None:
    """What was appended arrives as it was: same records, counted from 0, ending with the terminal."""
    task_id = await opened(streams)
    chunks = [content(0, "naïve “text”\n"), content(1, "🌊"), ending(2)]
    viewer = asyncio.create_task(watch(streams, task_id))
    await write(streams, task_id, chunks)
    seen = await viewer
    assert [entry.index for entry in seen] == [0, 1, 2]
    assert [decode(entry.record) for entry in seen] == chunks
    assert seen[-1].is_terminal


async def test_a_late_viewer_gets_the_log(streams: Streams) -> None:
    """A viewer after the end gets all of it, or what follows the index that it asks for."""
    task_id = await opened(streams)
    await write(streams, task_id, [content(0), content(1), ending(2)])
    assert [entry.index for entry in await watch(streams, task_id)] == [0, 1, 2]
    assert [entry.index for entry in await watch(streams, task_id, start=2)] == [2]
    assert [entry.index for entry in await streams.reader.get_chunks(task_id, 1)] == [1, 2]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    joins=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5), size=st.integers(1, 30)
)
async def test_joining_at_any_moment_leaves_no_hole_and_no_repeat(
    streams: Streams, joins: list[tuple[int, int]], size: int
) -> None:
    """Viewers who join after any number of appends, from any index on, see exactly what follows it."""
    task_id = await opened(streams)
    chunks = [*(content(index) for index in range(size)), ending(size)]
    viewers: list[tuple[int, asyncio.Task[list[Entry]]]] = []
    for chunk in chunks:
        for moment, start in joins:
            if moment % len(chunks) == chunk.chunk_index:
                viewers.append((start % len(chunks), asyncio.create_task(watch(streams, task_id, start % len(chunks)))))
        await write(streams, task_id, [chunk])
    assert viewers
    for start, viewer in viewers:
        assert [entry.index for entry in await viewer] == list(range(start, len(chunks)))


async def test_a_lost_reply_is_no_reason_to_store_twice(streams: Streams) -> None:
    """The same index again is a success that changes nothing, for a terminal too."""
    task_id = await opened(streams)
    await write(streams, task_id, [content(0)])
    assert (await streams.writer.append(task_id, content(0))).outcome is Outcome.DUPLICATE
    await write(streams, task_id, [ending(1)])
    assert (await streams.writer.append(task_id, ending(1))).outcome is Outcome.DUPLICATE
    assert len(await streams.reader.get_chunks(task_id)) == 2


async def test_an_index_out_of_turn_is_refused(streams: Streams) -> None:
    """A hole can't be written."""
    task_id = await opened(streams)
    assert (await streams.writer.append(task_id, content(1))).outcome is Outcome.GAP
    assert await streams.reader.get_chunks(task_id) == []


async def test_a_newer_attempt_fences_the_older(streams: Streams) -> None:
    """Once a stream is opened again, the earlier producer can neither append nor renew."""
    task_id = await opened(streams)
    await write(streams, task_id, [content(0)])
    opening = await streams.writer.open(task_id)
    assert (opening.attempt, opening.next_index) == (2, 1)
    assert (await streams.writer.append(task_id, content(1))).outcome is Outcome.FENCED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.FENCED
    await write(streams, task_id, [Chunk(1, ChunkType.RESET, "", 2, 0, 1), content(2, attempt=2), ending(3, attempt=2)])
    status = await streams.reader.status(task_id)
    assert status is not None
    assert (status.state, status.attempt, status.last_reset, status.next_index) == ("done", 2, 1, 4)


@pytest.mark.parametrize("kind", [ChunkType.DONE, ChunkType.FAILED, ChunkType.CANCELLED])
async def test_a_terminal_is_final(streams: Streams, kind: ChunkType) -> None:
    """After any terminal nothing can be appended, renewed or opened, and its state is known with it."""
    task_id = await opened(streams)
    await write(streams, task_id, [ending(0, kind)])
    status = await streams.reader.status(task_id)
    assert status is not None
    assert status.state == kind
    assert (await streams.writer.append(task_id, content(1))).outcome is Outcome.CLOSED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.CLOSED
    with pytest.raises(StreamOverError):
        await streams.writer.open(task_id)


async def test_a_cancel_reaches_the_producer_twice_over(streams: Streams) -> None:
    """The producer hears of a cancel while it waits, and again with its next append; asking twice is harmless."""
    task_id = await opened(streams)
    waiting = asyncio.create_task(streams.writer.wait_cancel(task_id))
    assert not (await streams.writer.append(task_id, content(0))).cancelled
    assert await streams.writer.cancel(task_id) == "open"
    assert await streams.writer.cancel(task_id) == "open"
    await asyncio.wait_for(waiting, 5)
    assert (await streams.writer.append(task_id, content(1))).cancelled
    assert (await streams.writer.renew(task_id, 1)).cancelled


async def test_a_cancel_that_came_first_is_heard_at_once(streams: Streams) -> None:
    """A cancel before the producer began is not lost."""
    task_id = await streams.new()
    await streams.writer.cancel(task_id)
    await streams.writer.open(task_id)
    await asyncio.wait_for(streams.writer.wait_cancel(task_id), 5)


async def test_a_cancel_after_the_end_changes_nothing(streams: Streams) -> None:
    """It answers how the stream ended."""
    task_id = await opened(streams)
    await write(streams, task_id, [ending(0)])
    assert await streams.writer.cancel(task_id) == "done"


async def test_silence_is_told(streams: Streams) -> None:
    """A viewer of a silent stream hears an empty batch now and then, so that it can look after the producer."""
    task_id = await opened(streams)
    batches = streams.reader.follow(task_id, 0)
    async with asyncio.timeout(5):
        while await anext(batches):
            pass
    await batches.aclose()  # type: ignore[attr-defined]  # an async generator in fact


async def test_a_lease_is_renewed_by_appending_and_by_renewing(streams: Streams) -> None:
    """An open stream whose producer shows life can't be reaped."""
    task_id = await opened(streams)
    await write(streams, task_id, [content(0)])
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.OK
    assert not await streams.reader.reap(task_id, ending(0, ChunkType.FAILED), grace_s=0)
    status = await streams.reader.status(task_id)
    assert status is not None
    assert status.lease_left_s > 50


async def test_exactly_one_of_many_viewers_reaps_a_lost_stream(hasty_streams: Streams) -> None:
    """When the lease has run out, one caller closes the stream; its terminal follows the last chunk, and all see it."""
    task_id = await opened(hasty_streams)
    await write(hasty_streams, task_id, [content(0)])
    viewer = asyncio.create_task(watch(hasty_streams, task_id))
    await expired(hasty_streams, task_id)
    lost = ending(99, ChunkType.FAILED, attempt=99)
    closed = await asyncio.gather(*(hasty_streams.reader.reap(task_id, lost, grace_s=0) for _ in range(8)))
    assert sorted(closed) == [False] * 7 + [True]
    seen = [decode(entry.record) for entry in await viewer]
    assert [chunk.chunk_index for chunk in seen] == [0, 1]
    assert (seen[1].attempt, seen[1].code, seen[1].retryable) == (1, "producer_lost", True)
    assert (await hasty_streams.writer.append(task_id, content(1))).outcome is not Outcome.OK


async def test_a_lease_within_its_grace_is_left_alone(hasty_streams: Streams) -> None:
    """A terminal is final, so nobody hurries."""
    task_id = await opened(hasty_streams)
    await expired(hasty_streams, task_id)
    assert not await hasty_streams.reader.reap(task_id, ending(0, ChunkType.FAILED), grace_s=60)


async def test_many_viewers_share_one_stream(streams: Streams) -> None:
    """Each of them sees all of it."""
    task_id = await opened(streams)
    viewers = [asyncio.create_task(watch(streams, task_id)) for _ in range(25)]
    await write(streams, task_id, [*(content(index) for index in range(20)), ending(20)])
    for viewer in viewers:
        assert [entry.index for entry in await viewer] == list(range(21))


async def test_a_slow_viewer_loses_nothing(streams: Streams) -> None:
    """A viewer who takes nothing while hundreds of chunks pass finds them all afterwards, from the log."""
    task_id = await opened(streams)
    batches = streams.reader.follow(task_id, 0)
    await write(streams, task_id, [content(0)])
    seen = list(await anext(batches))
    await write(streams, task_id, [*(content(index) for index in range(1, 600)), ending(600)])
    async for entries in batches:
        seen.extend(entries)
    assert [entry.index for entry in seen] == list(range(601))


async def test_a_stream_that_nobody_knows_is_said_to_be_missing(streams: Streams) -> None:
    """It has no status and no chunks, and can't be opened, followed or cancelled."""
    nobody = uuid4()
    assert await streams.reader.status(nobody) is None
    assert await streams.reader.get_chunks(nobody) == []
    assert (await streams.writer.append(nobody, content(0))).outcome is Outcome.MISSING
    with pytest.raises(StreamMissingError):
        await streams.writer.open(nobody)
    with pytest.raises(StreamMissingError):
        await streams.writer.cancel(nobody)
    with pytest.raises(StreamMissingError):
        await watch(streams, nobody)
