"""A second producer takes over: only the newest attempt may write, and viewers discard what the older one said."""

import asyncio

import pytest

from app.records import Final
from app.streaming.contract import Chunk, ChunkType, FencedError, Opening, Outcome
from tests.contract.backends import Streams
from tests.contract.moves import (
    begin,
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
    opening = await begin(streams, task_id)
    assert (opening.attempt, opening.next_index) == (2, 1)
    for stale in (content(0), content(1), ending(1), content(9)):
        assert (await streams.writer.append(task_id, stale)).outcome is Outcome.FENCED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.FENCED
    status = await status_of(streams, task_id)
    assert (status.state, status.attempt, status.next_index) == ("open", 2, 1)


async def test_a_stale_producer_is_fenced_after_the_end_as_well(streams: Streams) -> None:
    """It learns that it was replaced, not that it is done."""
    task_id = await opened(streams)
    await begin(streams, task_id)
    await write(streams, task_id, ending(0, attempt=2))
    assert (await streams.writer.append(task_id, ending(0))).outcome is Outcome.FENCED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.FENCED


async def test_an_attempt_that_was_never_allocated_is_fenced(streams: Streams) -> None:
    """A claim counts attempts, nobody else, and only one that was opened may write."""
    task_id = await streams.new()
    assert (await streams.writer.append(task_id, content(0))).outcome is Outcome.FENCED
    await begin(streams, task_id)
    assert (await streams.writer.append(task_id, content(0, attempt=7))).outcome is Outcome.FENCED


async def test_a_reset_discards_what_was_said(streams: Streams) -> None:
    """It takes an index like any chunk, and the status tells where the newest text begins."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    first = [content(0, "half an ans")]
    await write(streams, task_id, *first)
    await begin(streams, task_id)
    second = [reset(1, 2), content(2, "a whole answer", 2), ending(3, attempt=2)]
    await write(streams, task_id, *second)
    assert chunks_of(await viewer) == [*first, *second]
    assert text_of(await viewer) == "a whole answer"
    status = await status_of(streams, task_id)
    assert (status.state, status.attempt, status.last_reset, status.next_index) == ("done", 2, 1, 4)


async def test_attempts_that_begin_together_are_told_apart(streams: Streams) -> None:
    """Each gets a number of its own, and only the last of them may write, commit or take the stream elsewhere."""
    task_id = await streams.new()
    jobs = await asyncio.gather(*(streams.records.claim(task_id) for _ in range(5)))
    attempts = [job.attempt for job in jobs if job]
    assert sorted(attempts) == [1, 2, 3, 4, 5]
    openings = await asyncio.gather(
        *(streams.writer.open(task_id, attempt) for attempt in attempts), return_exceptions=True
    )
    assert all(isinstance(found, Opening | FencedError) for found in openings)
    answers = [await streams.writer.append(task_id, content(0, attempt=attempt)) for attempt in attempts]
    assert [answer.outcome is Outcome.OK for answer in answers] == [attempt == 5 for attempt in attempts]
    final = Final("complete", "word ", "stop", None, {}, streams.pin)
    committed = [await streams.records.commit(task_id, attempt, final) for attempt in attempts]
    assert committed == [attempt == 5 for attempt in attempts]


async def test_an_older_attempt_that_opens_late_is_refused(streams: Streams) -> None:
    """Two workers claim and the later one opens first: the other finds out before it has asked a model."""
    task_id = await streams.new()
    older, newer = await streams.records.claim(task_id), await streams.records.claim(task_id)
    assert older is not None
    assert newer is not None
    await streams.writer.open(task_id, newer.attempt)
    with pytest.raises(FencedError):
        await streams.writer.open(task_id, older.attempt)
    assert (await status_of(streams, task_id)).attempt == newer.attempt
    await write(streams, task_id, content(0, attempt=newer.attempt))


async def test_opening_again_after_a_lost_reply_is_harmless(streams: Streams) -> None:
    """The attempt stays the same one, and goes on where its log ends."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    assert await streams.writer.open(task_id, 1) == Opening(attempt=1, next_index=1)
    await write(streams, task_id, content(1))


async def test_an_attempt_that_was_claimed_and_never_opened_is_skipped(streams: Streams) -> None:
    """Its worker died in between; the next one is simply two ahead."""
    task_id = await opened(streams)
    await streams.records.claim(task_id)
    assert (await begin(streams, task_id)).attempt == 3
    assert (await streams.writer.append(task_id, content(0))).outcome is Outcome.FENCED
    await write(streams, task_id, content(0, attempt=3))


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
        opening = await begin(streams, task_id)
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
