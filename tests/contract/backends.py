"""Every backend, as the suite holds it: its two sides on a real server, and what may befall that server."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import redis

from app.database import Database
from app.delivery import Delivery
from app.records import Final, Records
from app.settings import Settings
from app.streaming import keys
from app.streaming.backends import Backends
from app.streaming.contract import StreamReader, StreamWriter
from app.streaming.memory import MemoryStreams
from app.streaming.polling import PollingTimes, open_polling
from app.streaming.pubsub import PubSubTimes, open_pubsub

SILENCE_S = 0.2
TTL_S = 60
NAMES = ("memory", "polling", "pubsub-valkey", "pubsub-redis", "pubsub-cluster")


@dataclass(frozen=True)
class Streams:
    """One backend under test, and the database that every stream has its message in."""

    pin: str
    writer: StreamWriter
    reader: StreamReader
    records: Records
    delivery: Delivery
    expire: Callable[[UUID], Awaitable[object]]
    """Let the stream's TTL pass."""
    sever: Callable[[], Awaitable[object]]
    """Break every connection to the store, as a network would; the store itself stays well."""
    lease_s: float

    async def new(self) -> UUID:
        """Post a message, whose stream nobody has opened yet."""
        conversation = await self.records.add_conversation(None)
        posted = await self.records.post(conversation.id, "hello", "scripted", None, self.pin, self.lease_s)
        assert posted is not None
        await self.writer.create(posted.task_id)
        return posted.task_id

    async def commit(self, task_id: UUID, text: str) -> None:
        """Write the finished answer, as a producer does before its `done`."""
        assert await self.records.commit(task_id, 1, Final("complete", text, "stop", None, {}, self.pin))


@dataclass(frozen=True)
class Part:
    """What one kind of backend brings to `Streams`."""

    writer: StreamWriter
    reader: StreamReader
    expire: Callable[[UUID], Awaitable[object]]
    sever: Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def open_streams(name: str, database_url: str, stores: list[str], lease_s: float) -> AsyncIterator[Streams]:
    """Connect one backend; `stores` are the URLs of its servers."""
    pin = name.partition("-")[0]
    settings = Settings(
        database_url=database_url, lease_s=lease_s, lease_grace_s=0.2, silence_s=SILENCE_S, keep_alive_s=0.5
    )
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.connect(database_url, 5))
        records = Records(database)
        polling = await stack.enter_async_context(_polling(database, database_url, lease_s))
        if pin == "polling":
            part = polling
        elif pin == "memory":
            part = _memory(lease_s)
        else:
            part = await stack.enter_async_context(_pubsub(stores, lease_s, cluster=name.endswith("cluster")))
        backends = Backends({pin: part.writer}, {pin: part.reader}, polling.writer)  # type: ignore[arg-type]
        delivery = Delivery(settings, records, backends)
        yield Streams(pin, part.writer, part.reader, records, delivery, part.expire, part.sever, lease_s)


def _memory(lease_s: float) -> Part:
    streams = MemoryStreams(lease_s=lease_s, queue_patience_s=lease_s, silence_s=SILENCE_S)

    async def sever() -> None:
        """Memory has no connections."""

    return Part(streams, streams, streams.discard, sever)


@contextlib.asynccontextmanager
async def _polling(database: Database, url: str, lease_s: float) -> AsyncIterator[Part]:
    times = PollingTimes(polling_interval_s=0.01, lease_s=lease_s, silence_s=SILENCE_S)

    async def expire(task_id: UUID) -> None:
        async with database.driver() as connection:
            aged = "created_at = now() - interval '2 h', lease_until = now() - interval '2 h'"
            await connection.execute(f"UPDATE stream SET {aged} WHERE task_id = $1", task_id)
        assert await Records(database).delete_expired_chunks(3600)

    async def sever() -> None:
        async with Database.connect(url, 1) as other, other.driver() as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    async with open_polling(database, times) as (writer, reader):
        yield Part(writer, reader, expire, sever)


@contextlib.asynccontextmanager
async def _pubsub(stores: list[str], lease_s: float, *, cluster: bool) -> AsyncIterator[Part]:
    times = PubSubTimes(lease_s=lease_s, queue_patience_s=lease_s, silence_s=SILENCE_S, chunk_ttl_s=TTL_S)

    async def expire(task_id: UUID) -> None:
        for url in stores:
            with redis.Redis.from_url(url) as client, contextlib.suppress(redis.ResponseError):  # MOVED: not this node
                client.delete(keys.chunks_key(task_id), keys.meta_key(task_id))

    async def sever() -> None:
        for url in stores:
            with redis.Redis.from_url(url) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async with open_pubsub(stores[0], times, cluster=cluster) as (writer, reader):
        yield Part(writer, reader, expire, sever)
