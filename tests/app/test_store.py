"""What streams leave in the stores: keys with a TTL, rows that expire, and queries that do not grow with chunks."""

import asyncio
import re
from pathlib import Path
from time import time_ns
from uuid import UUID

import asyncpg
import pytest
import redis.asyncio

from app.database import Database
from app.generation import generate
from app.records import Records
from app.streaming import keys
from ops.postgres_server import PostgresServer
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.client import Client
from tests.support.database import migrated_postgres
from tests.support.serving import producing, serving
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
STATEMENT = re.compile(r"LOG:  (?:execute [^:]*|statement): \s*(\w+(?: \w+)?)")
UNITS = re.compile(r"^streamgauge_database_units_total (\S+)", re.MULTILINE)


async def database_units(client: Client, system: Stack) -> int:
    """What the API and the worker asked of the database so far, by their own count."""
    pages = [await client.http.get(url) for url in (f"{system.api_url}/metrics", *system.worker_metrics_urls)]
    found = [UNITS.search(page.text) for page in pages]
    assert all(found), "each process counts"
    return sum(int(float(match[1])) for match in found if match)


async def test_the_log_can_be_read_by_a_person_and_every_key_expires(client: Client, system: Stack) -> None:
    """`LRANGE stream:{id}:chunks 0 -1` shows the records, and all of a stream's keys live an hour."""
    posted = await client.post(backend="pubsub")
    events = await client.whole(posted.task_id)
    async with redis.asyncio.from_url(system.redis_url, decode_responses=True) as store:
        found = sorted([key async for key in store.scan_iter(match=f"stream:*{posted.task_id}*")])
        assert found == [f"stream:{{{posted.task_id}}}:chunks", f"stream:{{{posted.task_id}}}:meta"]
        lifetimes = [await store.ttl(key) for key in found]
        records = await store.lrange(found[0], 0, -1)  # type: ignore[misc]  # redis-py types it for both worlds
    assert all(3500 < seconds <= 3600 for seconds in lifetimes)
    assert len(records) == len(events)
    assert '"chunk_type":"done"' in records[-1]


async def test_a_streams_names_share_one_slot() -> None:
    """Keys and channels carry one hash tag, so that a cluster keeps them together."""
    names = [name(UUID(int=1)) for name in (keys.chunks_key, keys.meta_key, keys.channel, keys.control_channel)]
    assert {re.search(r"{(.*)}", name)[1] for name in names} == {str(UUID(int=1))}  # type: ignore[index]  # all have it


async def test_the_database_load_of_a_pubsub_stream_does_not_grow_with_its_chunks(
    client: Client, system: Stack
) -> None:
    """Ten times the chunks cost the same number of transactions under pubsub, and many more under polling."""

    async def cost(backend: str, chunks: int) -> int:
        before = await database_units(client, system)
        posted = await client.post(f"ttft=0.02&gap=0.005&chunks={chunks}", backend)
        await client.whole(posted.task_id)
        await until_awaited(lambda: closed(posted.task_id), "the worker has noted the end")
        return await database_units(client, system) - before

    async def closed(task_id: str) -> bool:
        async with Database.connect(system.database_url, 1) as database:
            pin = await Records(database).pin(UUID(task_id))
        return pin is not None and pin.state == "done"

    await cost("pubsub", 1)  # the API learns the flag that is in force
    few, many = await cost("pubsub", 20), await cost("pubsub", 200)
    assert few == many == 5, "the conversation, the message, the claim, the viewer, the commit"
    assert await cost("polling", 200) > 100


async def test_a_pubsub_stream_costs_four_statements(system: Stack, tmp_path: Path) -> None:
    """The server's own log of statements, 36 chunks or 300: POST, claim, pin, commit, and no BEGIN or COMMIT."""
    with migrated_postgres(tmp_path) as server, running_valkey() as store:
        settings = settings_of(
            system, database_url=server.url, redis_url=store.url, broker_url=store.url, database_pool=1
        )
        async with producing(settings) as services, serving(settings) as client:
            conversation = await client.conversation()

            async def statements(chunks: int) -> list[str]:
                before = len(logged(server))
                posted = await client.post(f"ttft=0.02&gap=0.002&chunks={chunks}", "pubsub", conversation)
                answering = asyncio.create_task(generate(services, UUID(posted.task_id), time_ns()))
                events = await client.whole(posted.task_id)
                await answering
                assert events[-1].record["usage"]["completion_tokens"] == chunks
                return logged(server)[before:]

            await statements(5)  # connections and the driver's questions about types are once in a process
            await log_statements(server)
            few, many = await statements(36), await statements(300)
    posting, claiming, joining, committing = "WITH flag", "WITH claimed", "SELECT stream", "WITH answered"
    for found in (few, many):
        assert sorted(found) == sorted([posting, claiming, joining, committing])
        assert (found[0], found[-1]) == (posting, committing)


async def log_statements(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        await connection.execute("SELECT pg_reload_conf()")
        await until_awaited(lambda: shows(connection, "log_statement", "all"), "the server logs statements")
    finally:
        await connection.close()


async def shows(connection: asyncpg.Connection, name: str, value: str) -> bool:
    return bool(await connection.fetchval(f"SHOW {name}") == value)


def logged(server: PostgresServer) -> list[str]:
    """The first words of each statement that the server says it was asked to run, in order."""
    found = STATEMENT.findall(server.process.log.read_text())
    return [words for words in found if words != "SELECT generation"]  # each process's look for a newer flag


async def test_expired_rows_are_deleted_and_fresh_ones_kept(client: Client, system: Stack) -> None:
    """The polling backend's clean-up, which Valkey does by itself."""
    posted = await client.post(backend="polling")
    await client.whole(posted.task_id)
    connection = await asyncpg.connect(system.database_url)
    try:
        count = "SELECT count(*) FROM stream_chunk WHERE task_id = $1"
        async with Database.connect(system.database_url, 1) as database:
            records = Records(database)
            await records.delete_expired_chunks(3600)
            assert await connection.fetchval(count, posted.task_id) > 0
            age = "UPDATE stream SET created_at = now() - interval '2 h', lease_until = now() - interval '2 h'"
            await connection.execute(f"{age} WHERE task_id = $1", posted.task_id)
            assert await records.delete_expired_chunks(3600) > 0
            assert await connection.fetchval(count, posted.task_id) == 0
    finally:
        await connection.close()
    assert (await client.whole(posted.task_id))[-1].record["chunk_type"] == "done"
