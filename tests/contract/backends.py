"""Every backend, as the suite holds it: its two sides on a real server, and what may befall that server."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import redis

from app.database import Database
from app.delivery import Delivery
from app.records import Final, Records
from app.settings import IN_ROWS, Settings
from app.streaming import keys
from app.streaming.contract import StreamReader, StreamWriter
from app.streaming.memory import MemoryStreams
from app.streaming.pairs import OPENERS, Backends

TTL_S = 60
UNUSED = "redis://127.0.0.1:1/0"
NAMES = (
    "memory",
    "polling",
    "notify",
    "pubsub-valkey",
    "pubsub-redis",
    "pubsub-cluster",
    "streams-valkey",
    "streams-redis",
)


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
        database_url=database_url,
        redis_url=stores[0] if stores else UNUSED,
        store_cluster=name.endswith("cluster"),
        broker_url=UNUSED,
        lease_s=lease_s,
        lease_grace_s=0.2,
        queue_patience_s=lease_s,
        silence_s=0.2,
        keep_alive_s=0.5,
        polling_interval_s=0.01,
        chunk_ttl_s=TTL_S,
    )
    async with contextlib.AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.connect(database_url, 5))
        records = Records(database)
        safe, _ = await stack.enter_async_context(OPENERS["polling"](settings, database))
        if pin == "memory":
            memory = MemoryStreams(lease_s=lease_s, queue_patience_s=lease_s, silence_s=settings.silence_s)
            part = Part(memory, memory, memory.discard, _sever_nothing)
        else:
            writer, reader = await stack.enter_async_context(OPENERS[pin](settings, database))
            if pin in IN_ROWS:
                expire, sever = partial(_expire_rows, database), partial(_sever_database, database_url)
            else:
                expire, sever = partial(_expire_keys, stores), partial(_sever_stores, stores)
            part = Part(writer, reader, expire, sever)
        backends = Backends({pin: part.writer}, {pin: part.reader}, safe)
        delivery = Delivery(settings, records, backends)
        yield Streams(pin, part.writer, part.reader, records, delivery, part.expire, part.sever, lease_s)


async def _sever_nothing() -> None:
    """Memory has no connections."""


async def _expire_rows(database: Database, task_id: UUID) -> None:
    async with database.driver() as connection:
        aged = "created_at = now() - interval '2 h', lease_until = now() - interval '2 h'"
        await connection.execute(f"UPDATE stream SET {aged} WHERE task_id = $1", task_id)
    assert await Records(database).delete_expired_chunks(3600)


async def _sever_database(url: str) -> None:
    async with Database.connect(url, 1) as other, other.driver() as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def _expire_keys(stores: list[str], task_id: UUID) -> None:
    for url in stores:
        with redis.Redis.from_url(url) as client, contextlib.suppress(redis.ResponseError):  # MOVED: not this node
            client.delete(keys.chunks_key(task_id), keys.log_key(task_id), keys.meta_key(task_id))


async def _sever_stores(stores: list[str]) -> None:
    for url in stores:
        with redis.Redis.from_url(url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
