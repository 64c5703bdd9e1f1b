"""A second producer takes over: only the newest attempt may write, and viewers discard what the older one said."""

import asyncio

import pytest

from app.streaming.contract import Chunk, ChunkType, Outcome
from tests.contract.backends import Streams
from tests.contract.moves import (
    chunks_of,
    content,
    ending,
    opened,
    refuses_to_open,
    reset,
    status_of,
    text_of,
    watch,
    write,
)

pytestmark = pytest.mark.anyio


async def test_a_newer_attempt_fences_the_older(streams: Streams) -> None:
    """The earlier producer can neither append, repeat, end nor renew; nothing of that leaves a trace."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    opening = await streams.writer.open(task_id)
    assert (opening.attempt, opening.next_index) == (2, 1)
    for stale in (content(0), content(1), ending(1), content(9)):
        assert (await streams.writer.append(task_id, stale)).outcome is Outcome.FENCED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.FENCED
    status = await status_of(streams, task_id)
    assert (status.state, status.attempt, status.next_index) == ("open", 2, 1)


async def test_a_stale_producer_is_fenced_after_the_end_as_well(streams: Streams) -> None:
    """It learns that it was replaced, not that it is done."""
    task_id = await opened(streams)
    await streams.writer.open(task_id)
    await write(streams, task_id, ending(0, attempt=2))
    assert (await streams.writer.append(task_id, ending(0))).outcome is Outcome.FENCED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.FENCED


async def test_an_attempt_that_was_never_allocated_is_fenced(streams: Streams) -> None:
    """The store counts attempts, nobody else."""
    task_id = await streams.new()
    assert (await streams.writer.append(task_id, content(0))).outcome is Outcome.FENCED
    await streams.writer.open(task_id)
    assert (await streams.writer.append(task_id, content(0, attempt=7))).outcome is Outcome.FENCED


async def test_a_reset_discards_what_was_said(streams: Streams) -> None:
    """It takes an index like any chunk, and the status tells where the newest text begins."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    first = [content(0, "half an ans")]
    await write(streams, task_id, *first)
    await streams.writer.open(task_id)
    second = [reset(1, 2), content(2, "a whole answer", 2), ending(3, attempt=2)]
    await write(streams, task_id, *second)
    assert chunks_of(await viewer) == [*first, *second]
    assert text_of(await viewer) == "a whole answer"
    status = await status_of(streams, task_id)
    assert (status.state, status.attempt, status.last_reset, status.next_index) == ("done", 2, 1, 4)


async def test_attempts_that_begin_together_are_told_apart(streams: Streams) -> None:
    """Each gets a number of its own, and only the last of them may write."""
    task_id = await streams.new()
    openings = await asyncio.gather(*(streams.writer.open(task_id) for _ in range(5)))
    assert sorted(opening.attempt for opening in openings) == [1, 2, 3, 4, 5]
    answers = await asyncio.gather(
        *(streams.writer.append(task_id, content(0, attempt=opening.attempt)) for opening in openings)
    )
    assert [answer.outcome is Outcome.OK for answer in answers] == [opening.attempt == 5 for opening in openings]


async def test_two_producers_at_work_leave_one_log(streams: Streams) -> None:
    """The older writes as fast as it can while the newer takes over: no index twice, no word of it after the reset."""
    task_id = await opened(streams)

    async def old() -> int:
        index = 0
        while (await streams.writer.append(task_id, content(index, "old "))).outcome is Outcome.OK:
            index += 1
            await asyncio.sleep(0)
        return index

    async def new() -> None:
        opening = await streams.writer.open(task_id)
        at, attempt = opening.next_index, opening.attempt
        fresh = [Chunk(at + 1 + n, ChunkType.CONTENT, "new ", attempt, 1, n) for n in range(10)]
        await write(streams, task_id, reset(at, attempt), *fresh, ending(at + 11, attempt=attempt))

    viewer = asyncio.create_task(watch(streams, task_id))
    written, _ = await asyncio.gather(old(), new())
    seen = chunks_of(await viewer)
    assert [chunk.chunk_index for chunk in seen] == list(range(written + 12))
    assert [chunk.attempt for chunk in seen] == [1] * written + [2] * 12


async def test_a_redelivered_task_whose_stream_is_over_does_nothing(streams: Streams) -> None:
    """It can't be opened, whoever ended it."""
    task_id = await opened(streams)
    await write(streams, task_id, ending(0, ChunkType.CANCELLED))
    assert await refuses_to_open(streams, task_id)
    assert (await status_of(streams, task_id)).attempt == 1
