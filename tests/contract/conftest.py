"""Every backend as one fixture parameter. The suite never names them."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from app.database import Database
from app.records import Records
from app.streaming.contract import StreamReader, StreamWriter
from app.streaming.memory import MemoryStreams
from app.streaming.polling import PollingTimes, open_polling
from app.streaming.pubsub import PubSubTimes, open_pubsub

QUICK_LEASE_S = 0.05
LEASE_S = 60.0


@dataclass(frozen=True)
class Streams:
    """One backend under test: its two sides, and a way to make a stream known."""

    writer: StreamWriter
    reader: StreamReader
    new: Callable[[], Awaitable[UUID]]


@contextlib.asynccontextmanager
async def _memory(lease_s: float) -> AsyncIterator[Streams]:
    streams = MemoryStreams(lease_s=lease_s, queue_patience_s=lease_s, silence_s=0.2)

    async def new() -> UUID:
        task_id = uuid4()
        await streams.create(task_id)
        return task_id

    yield Streams(streams, streams, new)


@contextlib.asynccontextmanager
async def _polling(lease_s: float, database: Database) -> AsyncIterator[Streams]:
    records = Records(database)
    times = PollingTimes(polling_interval_s=0.01, lease_s=lease_s, silence_s=0.2)

    async def new() -> UUID:
        conversation = await records.add_conversation(None)
        posted = await records.post(conversation.id, "hello", "scripted", None, "polling", lease_s)
        assert posted is not None
        await writer.create(posted.task_id)
        return posted.task_id

    async with open_polling(database, times) as (writer, reader):
        yield Streams(writer, reader, new)


@contextlib.asynccontextmanager
async def _pubsub(lease_s: float, url: str) -> AsyncIterator[Streams]:
    times = PubSubTimes(lease_s=lease_s, queue_patience_s=lease_s, silence_s=0.2, chunk_ttl_s=60)

    async def new() -> UUID:
        task_id = uuid4()
        await writer.create(task_id)
        return task_id

    async with open_pubsub(url, times) as (writer, reader):
        yield Streams(writer, reader, new)


@pytest.fixture(params=["memory", "polling", "pubsub"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def make_streams(
    backend: str, database_url: str, valkey_url: str
) -> AsyncIterator[Callable[[float], Awaitable[Streams]]]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(lease_s: float) -> Streams:
            if backend == "memory":
                return await stack.enter_async_context(_memory(lease_s))
            if backend == "polling":
                database = await stack.enter_async_context(Database.connect(database_url, 5))
                return await stack.enter_async_context(_polling(lease_s, database))
            return await stack.enter_async_context(_pubsub(lease_s, valkey_url))

        yield make


@pytest.fixture
async def streams(make_streams: Callable[[float], Awaitable[Streams]]) -> Streams:
    """A backend whose leases outlast any test."""
    return await make_streams(LEASE_S)


@pytest.fixture
async def hasty_streams(make_streams: Callable[[float], Awaitable[Streams]]) -> Streams:
    """A backend whose leases run out at once."""
    return await make_streams(QUICK_LEASE_S)
