"""What producers and viewers do, as the tests have them do it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from uuid import UUID

from app.database import DatabaseUnavailableError
from app.streaming.contract import (
    Answer,
    Chunk,
    ChunkType,
    Entry,
    Opening,
    Outcome,
    Status,
    StoreUnavailableError,
    StreamOverError,
    SwiftWriter,
    decode,
)
from tests.contract.backends import Streams
from tests.support.waiting import LOOK_EVERY_S, until_awaited

PATIENCE_S = 20


def content(index: int, text: str = "word ", attempt: int = 1) -> Chunk:
    return Chunk(index, ChunkType.CONTENT, text, attempt, 1, 1_700_000_000_123_456_789 + index)


def reset(index: int, attempt: int) -> Chunk:
    return Chunk(index, ChunkType.RESET, "", attempt, 0, 5)


def ending(index: int, kind: ChunkType = ChunkType.DONE, attempt: int = 1) -> Chunk:
    if kind is ChunkType.DONE:
        return Chunk(index, kind, "", attempt, 0, 5, finish_reason="stop", usage={"total_tokens": 7})
    if kind is ChunkType.FAILED:
        return Chunk(index, kind, "", attempt, 0, 5, code="producer_lost", retryable=True)
    return Chunk(index, kind, "", attempt, 0, 5)


async def begin(streams: Streams, task_id: UUID) -> Opening:
    """Claim the next attempt and open it, as a worker does. Raises `StreamOverError` for what has its end."""
    job = await streams.records.claim(task_id)
    if job is None:
        raise StreamOverError
    return await streams.writer.open(task_id, job.attempt)


async def opened(streams: Streams) -> UUID:
    """A stream whose first attempt has begun."""
    task_id = await streams.new()
    assert await begin(streams, task_id) == Opening(attempt=1, next_index=0)
    return task_id


async def write(streams: Streams, task_id: UUID, *chunks: Chunk) -> None:
    """Append on a store that is well."""
    for chunk in chunks:
        assert (await streams.writer.append(task_id, chunk)).outcome is Outcome.OK


async def push(streams: Streams, task_id: UUID, chunk: Chunk) -> Answer:
    """Append as a producer does: content by the writer's lane, if it offers one, and all else by `append`."""
    writer = streams.writer
    if chunk.chunk_type is not ChunkType.CONTENT or not isinstance(writer, SwiftWriter):
        return await streams.writer.append(task_id, chunk)
    heard: asyncio.Future[Answer | StoreUnavailableError] = asyncio.get_running_loop().create_future()
    writer.lane(task_id, chunk.attempt, heard.set_result)(chunk)
    assert not heard.done(), "the answer comes after the call"
    async with asyncio.timeout(PATIENCE_S):
        answer = await heard
    if isinstance(answer, StoreUnavailableError):
        raise answer
    return answer


async def insist(streams: Streams, task_id: UUID, chunk: Chunk) -> Answer:
    """Append on a store that may be away for a moment: the reply may be lost, the chunk may not."""
    with contextlib.suppress(StoreUnavailableError):
        return await push(streams, task_id, chunk)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                return await streams.writer.append(task_id, chunk)
            await asyncio.sleep(LOOK_EVERY_S)  # between two tries


async def take_over(streams: Streams, task_id: UUID) -> Opening:
    """Begin another attempt on a store that may be away for a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(StoreUnavailableError, DatabaseUnavailableError):
                return await begin(streams, task_id)
            await asyncio.sleep(LOOK_EVERY_S)  # between two tries


async def following(streams: Streams, task_id: UUID, start: int = 0) -> AsyncGenerator[list[Entry], None]:
    """Follow to the end; when the connection breaks, again from where it was, as a view does."""
    position = start
    while True:
        try:
            async with contextlib.aclosing(streams.reader.follow(task_id, position)) as batches:
                async for entries in batches:
                    position = entries[-1].index + 1 if entries else position
                    yield entries
        except StoreUnavailableError:
            await asyncio.sleep(LOOK_EVERY_S)  # between two tries
        else:
            return


async def watch(streams: Streams, task_id: UUID, start: int = 0) -> list[Entry]:
    """All that a viewer sees until the end."""
    async with asyncio.timeout(PATIENCE_S):
        return [entry async for entries in following(streams, task_id, start) for entry in entries]


async def status_of(streams: Streams, task_id: UUID) -> Status:
    status = await streams.reader.status(task_id)
    assert status is not None
    return status


async def lease_ran_out(streams: Streams, task_id: UUID) -> None:
    async def is_over() -> bool:
        return (await status_of(streams, task_id)).lease_left_s < 0

    await until_awaited(is_over, "the lease runs out")


async def refuses_to_open(streams: Streams, task_id: UUID) -> bool:
    try:
        await begin(streams, task_id)
    except StreamOverError:
        return True
    return False


def indexes(entries: Iterable[Entry]) -> list[int]:
    return [entry.index for entry in entries]


def chunks_of(entries: Iterable[Entry]) -> list[Chunk]:
    return [decode(entry.record) for entry in entries]


def text_of(entries: Iterable[Entry]) -> str:
    """What a client shows: a reset discards what came before."""
    text = ""
    for chunk in chunks_of(entries):
        text = "" if chunk.chunk_type is ChunkType.RESET else text + chunk.content
    return text
