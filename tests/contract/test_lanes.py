"""Content may be appended without a task that waits: the store keeps every promise of `append` on that way too."""

import asyncio
from uuid import uuid4

import pytest

from app.streaming.contract import STORED, ChunkType, Outcome
from tests.contract.backends import Streams
from tests.contract.moves import begin, chunks_of, content, ending, insist, opened, push, watch, write

pytestmark = pytest.mark.anyio


async def test_what_is_pushed_is_what_arrives(streams: Streams) -> None:
    """Side by side with what is appended: one log, in order, of which each chunk was answered by `ok`."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    await write(streams, task_id, content(0))
    chunks = [content(index, "naïve “text”\n\n🌊") for index in range(1, 30)]
    for chunk in chunks:
        assert await push(streams, task_id, chunk) == STORED
    await write(streams, task_id, ending(30))
    assert chunks_of(await viewer) == [content(0), *chunks, ending(30)]


async def test_what_append_refuses_is_refused_here(streams: Streams) -> None:
    """Each refusal has the same name, and leaves no trace."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    assert (await push(streams, task_id, content(1, "else"))).outcome is Outcome.DUPLICATE
    assert (await push(streams, task_id, content(0, "else"))).outcome is Outcome.DUPLICATE
    assert (await push(streams, task_id, content(3))).outcome is Outcome.GAP
    assert (await push(streams, task_id, content(2, attempt=2))).outcome is Outcome.FENCED
    assert (await insist(streams, uuid4(), content(0))).outcome is Outcome.MISSING
    await begin(streams, task_id)
    assert (await push(streams, task_id, content(2))).outcome is Outcome.FENCED
    await write(streams, task_id, ending(2, attempt=2))
    assert (await push(streams, task_id, content(3, attempt=2))).outcome is Outcome.CLOSED
    assert (await push(streams, task_id, content(2, attempt=2))).outcome is Outcome.CLOSED
    assert chunks_of(await streams.reader.get_chunks(task_id)) == [content(0), content(1), ending(2, attempt=2)]


async def test_a_cancel_is_heard_with_the_next_answer(streams: Streams) -> None:
    """And with every one after it; the chunks are stored all the same."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    assert not (await push(streams, task_id, content(1))).cancelled
    await streams.writer.cancel(task_id)
    for index in (2, 3):
        answer = await push(streams, task_id, content(index))
        assert (answer.outcome, answer.cancelled) == (Outcome.OK, True)
    await write(streams, task_id, ending(4, ChunkType.CANCELLED))


async def test_an_answer_that_is_lost_is_told_and_stores_nothing_twice(streams: Streams) -> None:
    """The connection breaks while pushes are under way: asking again by `append` ends each of them."""
    task_id = await opened(streams)
    chunks = [content(index) for index in range(40)]

    async def produce() -> None:
        for chunk in chunks:
            assert (await insist(streams, task_id, chunk)).outcome in {Outcome.OK, Outcome.DUPLICATE}

    producing = asyncio.create_task(produce())
    for _ in range(5):
        await asyncio.sleep(0)
        await streams.sever()
    await producing
    await insist(streams, task_id, ending(40))
    assert chunks_of(await watch(streams, task_id)) == [*chunks, ending(40)]
