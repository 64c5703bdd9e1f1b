"""What the metrics say about what happened: each counts what its name says, and parts add up."""

import asyncio
import contextlib
import math
import re
from collections.abc import AsyncIterator
from time import time_ns
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from app.broker import Queue
from app.database import Database
from app.settings import Settings
from app.streaming import keys
from app.streaming.contract import Chunk, ChunkType, Entry, encode
from app.streaming.pubsub import PubSubReader, PubSubWriter, open_pubsub
from ops.stack import Stack
from tests.support.client import Client
from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


def here(name: str, **labels: str) -> float:
    """A series of this process; 0 while it has none."""
    return REGISTRY.get_sample_value(f"streamgauge_{name}", labels) or 0


async def at(client: Client, url: str, name: str, **labels: str) -> float:
    """A series of another process, summed over the labels that are not given."""
    text = (await client.http.get(url)).text
    series = re.findall(rf"^streamgauge_{name}(?:{{([^}}]*)}})? (\S+)", text, re.MULTILINE)
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    return sum(float(value) for found, value in series if wanted <= set(found.split(",")))


async def test_delivery_is_transit_and_write(client: Client, system: Stack) -> None:
    """Chunk by chunk, so that a panel can stack them; a worker counts the stream as started, and as ended."""
    api, worker = f"{system.api_url}/metrics", system.worker_metrics_urls[0]

    async def sums() -> tuple[float, ...]:
        names = ("delivery_seconds_count", "transit_seconds_count", "delivery_seconds_sum", "transit_seconds_sum")
        found = [await at(client, api, name) for name in (*names, "write_seconds_sum")]
        return (*found, await at(client, worker, "streams_started_total"))

    before = await sums()
    posted = await client.post("ttft=0.2&gap=0.02&chunks=10", "pubsub")
    await client.whole(posted.task_id)
    deliveries, transits, delivery_s, transit_s, write_s, started = (
        after - was for after, was in zip(await sums(), before, strict=True)
    )
    assert deliveries == transits == 11
    assert transit_s > 0
    assert delivery_s - transit_s > 0.99 * write_s, "a write of several chunks is in the delivery of each"
    assert started == 1


async def test_a_replay_is_as_long_as_what_was_there(client: Client, system: Stack) -> None:
    """A viewer who comes after the end gets all of it, and one who resumes the rest; a first viewer has no replay."""
    api = f"{system.api_url}/metrics"
    posted = await client.post("ttft=0.2&gap=0.02&chunks=10", "pubsub")
    before = [await at(client, api, f"replay_events_{part}") for part in ("count", "sum")]
    await client.whole(posted.task_id)
    await client.whole(posted.task_id)
    await client.whole(posted.task_id, **{"Last-Event-ID": "7"})
    events = len(await client.whole(posted.task_id, **{"Last-Event-ID": "6"}))
    after = [await at(client, api, f"replay_events_{part}") for part in ("count", "sum")]
    assert events == 4
    assert after[0] - before[0] == 3
    assert after[1] - before[1] == 11 + 3 + 4


@contextlib.asynccontextmanager
async def followed() -> AsyncIterator[tuple[RunningValkey, PubSubWriter, asyncio.Queue[list[Entry]], UUID]]:
    """A stream with one chunk, and a viewer who has seen it and listens."""
    with running_valkey() as server:
        settings = Settings(redis_url=server.url)
        async with open_pubsub(settings, None) as (writer, reader):  # type: ignore[arg-type]  # it asks no database
            task_id, seen = uuid4(), asyncio.Queue[list[Entry]]()
            await writer.create(task_id)
            await writer.open(task_id, 1)
            await writer.append(task_id, content(0))
            viewing = asyncio.create_task(view(reader, task_id, seen))
            assert [entry.index for entry in await seen.get()] == [0]
            try:
                yield server, writer, seen, task_id
            finally:
                viewing.cancel()
                await asyncio.gather(viewing, return_exceptions=True)


async def view(reader: PubSubReader, task_id: UUID, seen: asyncio.Queue[list[Entry]]) -> None:
    async for entries in reader.follow(task_id, 0):
        if entries:
            seen.put_nowait(entries)


def content(index: int) -> Chunk:
    return Chunk(index, ChunkType.CONTENT, "word ", 1, 1, time_ns())


async def test_what_a_lost_subscription_missed_is_a_repair() -> None:
    """The log brings it; joining, which reads the log too, is none. The connection that was made anew is counted."""
    async with followed() as (server, writer, seen, task_id):
        repairs, reconnects = here("gap_repairs_total", backend="pubsub"), here("store_reconnects_total")
        with server.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await writer.append(task_id, content(1))
        assert [entry.index for entry in await seen.get()] == [1]
        assert here("gap_repairs_total", backend="pubsub") == repairs + 1

        async def mended() -> bool:
            return here("store_reconnects_total") == reconnects + 1

        await until_awaited(mended, "the subscription's connection is made anew, and counted")


async def test_what_is_heard_twice_is_dropped_and_counted() -> None:
    """A second publisher of the same chunk changes nothing that a viewer sees."""
    async with followed() as (server, writer, seen, task_id):
        dropped = here("duplicates_dropped_total", backend="pubsub")
        with server.client() as client:
            client.publish(keys.channel(task_id), encode(content(0)))
        await writer.append(task_id, content(1))
        assert [entry.index for entry in await seen.get()] == [1]
        assert here("duplicates_dropped_total", backend="pubsub") == dropped + 1


async def test_the_stores_answers_and_the_subscriptions_lag_are_watched() -> None:
    """Without a stream: a ping now and then goes the way that chunks come."""
    commands, lags = here("store_operations_total"), here("hub_lag_seconds_count", backend="pubsub")

    async def watched() -> bool:
        more = here("hub_lag_seconds_count", backend="pubsub") > lags
        return more and here("store_operations_total") >= commands + 3

    async with followed():
        await until_awaited(watched, "the store's answers and a ping of the subscription are counted")


async def test_the_oldest_message_tells_its_age() -> None:
    """Of those that no worker has fetched; an empty queue has none."""
    with running_valkey() as server:
        async with Queue.connect(server.url) as queue:
            assert await queue.oldest_s() == 0
            before_ns = time_ns()
            await queue.put(uuid4())
            await queue.put(uuid4())
            first_s = await queue.oldest_s()
            assert 0 < first_s <= (time_ns() - before_ns) / 1e9
            assert await queue.oldest_s() > first_s
            with server.client() as client:
                client.delete("celery")
                client.lpush("celery", "no message of ours")
            assert math.isnan(await queue.oldest_s()), "not known, and nobody's watch ends by it"


async def test_a_pool_that_is_too_small_shows_as_waiting(database_url: str) -> None:
    """The second unit of work waits for the first one's connection; both are timed."""
    async with Database.connect(database_url, 1) as database:
        await database.ping()
        waits, waited = here("database_wait_seconds_count"), here("database_wait_seconds_sum")
        worked = here("database_unit_seconds_sum")
        async with database.driver() as connection:
            second = asyncio.create_task(database.ping())
            await connection.execute("SELECT pg_sleep(0.2)")
        await second
        assert here("database_wait_seconds_count") == waits + 2
        assert here("database_wait_seconds_sum") - waited > 0.15
        assert here("database_unit_seconds_sum") - worked > 0.2
