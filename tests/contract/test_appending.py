"""What a producer may write: one chunk after the other, without a hole, once each, and nothing after a terminal."""

import asyncio
from uuid import UUID, uuid4

import pytest

from app.streaming.contract import TERMINALS, ChunkType, Outcome, StreamMissingError
from tests.contract.backends import Streams
from tests.contract.moves import (
    chunks_of,
    content,
    ending,
    indexes,
    opened,
    refuses_to_open,
    status_of,
    watch,
    write,
)

pytestmark = pytest.mark.anyio
every_ending = pytest.mark.parametrize("kind", sorted(TERMINALS))


@every_ending
async def test_what_is_appended_is_what_arrives(streams: Streams, kind: ChunkType) -> None:
    """Every field of every record, in order, counted from 0, ending with the terminal."""
    task_id = await opened(streams)
    chunks = [content(0, "naïve “text”\n\n"), content(1, "🌊\u2028"), content(2, ""), ending(3, kind)]
    viewer = asyncio.create_task(watch(streams, task_id))
    await write(streams, task_id, *chunks)
    seen = await viewer
    assert indexes(seen) == [0, 1, 2, 3]
    assert chunks_of(seen) == chunks
    assert [entry.is_terminal for entry in seen] == [False, False, False, True]


async def test_a_lost_reply_is_no_reason_to_store_twice(streams: Streams) -> None:
    """The same index again is a success that changes nothing, for a terminal too."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    for index in (1, 0):
        assert (await streams.writer.append(task_id, content(index, "else"))).outcome is Outcome.DUPLICATE
    await write(streams, task_id, ending(2))
    assert (await streams.writer.append(task_id, ending(2))).outcome is Outcome.DUPLICATE
    assert chunks_of(await streams.reader.get_chunks(task_id)) == [content(0), content(1), ending(2)]


async def test_an_index_out_of_turn_is_refused(streams: Streams) -> None:
    """A hole can't be written."""
    task_id = await opened(streams)
    assert (await streams.writer.append(task_id, content(1))).outcome is Outcome.GAP
    assert await streams.reader.get_chunks(task_id) == []
    assert (await status_of(streams, task_id)).next_index == 0


async def test_of_many_appends_of_one_index_one_is_stored(streams: Streams) -> None:
    """An append is one atomic step: those who come at the same moment find it done."""
    task_id = await opened(streams)
    answers = await asyncio.gather(*(streams.writer.append(task_id, content(0, str(n))) for n in range(6)))
    assert sorted(answer.outcome for answer in answers) == [Outcome.DUPLICATE] * 5 + [Outcome.OK]
    assert indexes(await streams.reader.get_chunks(task_id)) == [0]
    assert (await status_of(streams, task_id)).next_index == 1


@every_ending
async def test_a_terminal_is_final(streams: Streams, kind: ChunkType) -> None:
    """After any of them nothing can be appended, renewed or opened, and no other end takes its place."""
    task_id = await opened(streams)
    await write(streams, task_id, ending(0, kind))
    assert (await status_of(streams, task_id)).state == kind
    assert (await streams.writer.append(task_id, content(1))).outcome is Outcome.CLOSED
    for other in TERMINALS - {kind}:
        assert (await streams.writer.append(task_id, ending(0, other))).outcome is Outcome.CLOSED
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.CLOSED
    assert await refuses_to_open(streams, task_id)
    assert chunks_of(await streams.reader.get_chunks(task_id)) == [ending(0, kind)]


async def test_the_end_and_its_state_are_one_step(streams: Streams) -> None:
    """Nobody ever finds a closed stream without its terminal in the log, nor a terminal in an open stream's log."""
    task_id = await opened(streams)
    looks = 0

    async def look() -> bool:
        before = await streams.reader.get_chunks(task_id)
        status = await status_of(streams, task_id)
        after = await streams.reader.get_chunks(task_id)
        if any(entry.is_terminal for entry in before):
            assert status.state == "done"
        if status.state != "open":
            assert after[-1].is_terminal
        assert len(before) <= status.next_index <= len(after)
        return status.state == "open"

    async def keep_looking() -> None:
        nonlocal looks
        while await look():
            looks += 1

    spies = [asyncio.create_task(keep_looking()) for _ in range(3)]
    await write(streams, task_id, *(content(index) for index in range(20)), ending(20))
    async with asyncio.timeout(10):
        await asyncio.gather(*spies)


async def test_making_a_stream_known_again_changes_nothing(streams: Streams) -> None:
    """A lost reply to `create` must not begin a stream anew under its viewers."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    before = await status_of(streams, task_id)
    await streams.writer.create(task_id)
    after = await status_of(streams, task_id)
    assert (before.attempt, before.next_index) == (after.attempt, after.next_index) == (1, 1)


async def test_a_log_can_be_read_from_any_index(streams: Streams) -> None:
    """From the beginning, from the middle, and from beyond its end, where there is nothing."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1), ending(2))
    for start, expected in ((0, [0, 1, 2]), (1, [1, 2]), (2, [2]), (3, []), (99, [])):
        assert indexes(await streams.reader.get_chunks(task_id, start)) == expected


async def test_a_stream_that_nobody_knows_is_said_to_be_missing(streams: Streams) -> None:
    """It has no status and no chunks, and can't be opened, appended to, renewed, followed or cancelled."""
    nobody = uuid4()
    assert await streams.reader.status(nobody) is None
    assert await streams.reader.get_chunks(nobody) == []
    assert (await streams.writer.append(nobody, content(0))).outcome is Outcome.MISSING
    assert (await streams.writer.renew(nobody, 1)).outcome is Outcome.MISSING
    assert not await streams.reader.reap(nobody, ending(0, ChunkType.FAILED), grace_s=0)
    for refused in (streams.writer.open(nobody, 1), streams.writer.cancel(nobody), watch(streams, nobody)):
        with pytest.raises(StreamMissingError):
            await refused


async def test_streams_do_not_know_each_other(streams: Streams) -> None:
    """What befalls one leaves the others as they are."""
    task_ids = [await opened(streams) for _ in range(6)]

    async def run(place: int, task_id: UUID) -> None:
        await write(streams, task_id, *(content(index, f"{place} ") for index in range(10)))
        await write(streams, task_id, ending(10, sorted(TERMINALS)[place % 3]))

    viewers = [asyncio.create_task(watch(streams, task_id)) for task_id in task_ids]
    await asyncio.gather(*(run(place, task_id) for place, task_id in enumerate(task_ids)))
    for place, viewer in enumerate(viewers):
        seen = chunks_of(await viewer)
        assert {chunk.content for chunk in seen[:-1]} == {f"{place} "}
        assert seen[-1].chunk_type == sorted(TERMINALS)[place % 3]
