"""What streams leave in the stores: keys with a TTL, rows that expire, and queries that do not grow with chunks."""

import re
from uuid import UUID

import asyncpg
import pytest
import redis.asyncio

from app.database import Database
from app.records import Records
from app.streaming import keys
from ops.stack import Stack
from tests.support.client import Client
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
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

    few, many = await cost("pubsub", 20), await cost("pubsub", 200)
    assert few == many < 12
    assert await cost("polling", 200) > 150


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
