"""A producer shows life or loses its stream: once the lease has run out, exactly one of many viewers closes it."""

import asyncio

import pytest

from app.streaming.contract import ChunkType, Outcome
from tests.contract.backends import Streams
from tests.contract.moves import (
    begin,
    chunks_of,
    content,
    ending,
    indexes,
    lease_ran_out,
    opened,
    refuses_to_open,
    status_of,
    watch,
    write,
)

pytestmark = pytest.mark.anyio
LOST = ending(99, ChunkType.FAILED, attempt=99)


async def test_a_lease_is_kept_by_renewing(streams: Streams) -> None:
    """An open stream whose producer shows life can't be reaped."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    opened_until = (await status_of(streams, task_id)).lease_left_s
    assert (await streams.writer.renew(task_id, 1)).outcome is Outcome.OK
    assert 55 < opened_until < (await status_of(streams, task_id)).lease_left_s + 1 <= streams.lease_s + 1
    assert not await streams.reader.reap(task_id, LOST, grace_s=0)
    assert (await status_of(streams, task_id)).state == "open"


@pytest.mark.parametrize("started", [True, False])
async def test_exactly_one_of_many_viewers_reaps_a_lost_stream(hasty_streams: Streams, started: bool) -> None:
    """Its terminal follows the last chunk, and all see it; so too for a stream that no worker ever took."""
    task_id = await (opened(hasty_streams) if started else hasty_streams.new())
    if started:
        await write(hasty_streams, task_id, content(0))
    viewers = [asyncio.create_task(watch(hasty_streams, task_id)) for _ in range(3)]
    await lease_ran_out(hasty_streams, task_id)
    closed = await asyncio.gather(*(hasty_streams.reader.reap(task_id, LOST, grace_s=0) for _ in range(8)))
    assert sorted(closed) == [False] * 7 + [True]
    for viewer in viewers:
        seen = chunks_of(await viewer)
        assert [chunk.chunk_index for chunk in seen] == list(range(1 + started))
        assert (seen[-1].chunk_type, seen[-1].code, seen[-1].retryable) == ("failed", "producer_lost", True)
        assert seen[-1].attempt == int(started)
    assert await refuses_to_open(hasty_streams, task_id)
    assert not await hasty_streams.reader.reap(task_id, LOST, grace_s=0)


async def test_a_reaped_stream_tells_its_late_producer(hasty_streams: Streams) -> None:
    """What it wanted to write at the reaper's index was not stored, and no answer makes it believe so."""
    task_id = await opened(hasty_streams)
    await write(hasty_streams, task_id, content(0))
    await lease_ran_out(hasty_streams, task_id)
    assert await hasty_streams.reader.reap(task_id, LOST, grace_s=0)
    for late in (content(1), ending(1), content(2)):
        assert (await hasty_streams.writer.append(task_id, late)).outcome is Outcome.CLOSED
    assert (await hasty_streams.writer.renew(task_id, 1)).outcome is Outcome.CLOSED
    assert (await hasty_streams.writer.append(task_id, content(0))).outcome is Outcome.DUPLICATE


async def test_a_lease_within_its_grace_is_left_alone(hasty_streams: Streams) -> None:
    """A terminal is final, so nobody hurries: the task may yet be redelivered."""
    task_id = await opened(hasty_streams)
    await lease_ran_out(hasty_streams, task_id)
    assert not await hasty_streams.reader.reap(task_id, LOST, grace_s=60)
    assert (await begin(hasty_streams, task_id)).attempt == 2


async def test_an_append_and_a_reaper_do_not_both_win(hasty_streams: Streams) -> None:
    """Whoever is first has the index; the log has no hole and one terminal at most."""
    for _ in range(5):
        task_id = await opened(hasty_streams)
        await lease_ran_out(hasty_streams, task_id)
        reaped, answer = await asyncio.gather(
            hasty_streams.reader.reap(task_id, LOST, grace_s=0), hasty_streams.writer.append(task_id, content(0))
        )
        assert reaped == (answer.outcome is Outcome.CLOSED) != (answer.outcome is Outcome.OK)
        assert indexes(await hasty_streams.reader.get_chunks(task_id)) == [0]


async def test_a_finished_stream_is_never_reaped(hasty_streams: Streams) -> None:
    """However long ago its producer showed life."""
    task_id = await opened(hasty_streams)
    await write(hasty_streams, task_id, ending(0))
    await lease_ran_out(hasty_streams, task_id)
    assert not await hasty_streams.reader.reap(task_id, LOST, grace_s=0)
    assert (await status_of(hasty_streams, task_id)).state == "done"
