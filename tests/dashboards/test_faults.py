"""What is empty in health gets data under the fault that feeds it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
import redis

from app.broker import Queue
from ops.stack import Stack, StackOptions, running_stack
from tests.dashboards.test_live import EMPTY_IN_HEALTH
from tests.support.client import Client
from tests.support.prometheus import needs, numbers, queries
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.anyio
HASTY = {
    "STREAMGAUGE_LEASE_S": "2",
    "STREAMGAUGE_LEASE_GRACE_S": "2",
    "STREAMGAUGE_WORKER_VISIBILITY_S": "2",
    "STREAMGAUGE_TIDY_EVERY_S": "1",
}
LONG = "ttft=0.05&gap=0.02&chunks=2000"
PATIENCE_S = 40.0
INTEGRITY = "Fenced, repeated, reaped"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One with short leases; each test mends what it breaks, and not in a thread: the part would end with that."""
    needs("prometheus", "prometheus-redis-exporter", "prometheus-postgres-exporter")
    environment = {**os.environ, **HASTY}
    options = StackOptions(tmp_path_factory.mktemp("faults"), port=0, observe=True, environment=environment)
    with running_stack(options) as running:
        yield running


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(base_url=stack.api_url, timeout=PATIENCE_S) as http:
        yield Client(http)


async def shows(stack: Stack, panel: str, legend: str = "", strike: Callable[[], object] = lambda: None) -> None:
    """Strike until this query has data, which is one of those that have none in health."""
    assert (panel, legend) in EMPTY_IN_HEALTH
    (expr,) = (shown.expr for shown in queries() if (shown.panel, shown.legend) == (panel, legend))

    async def struck() -> bool:
        await asyncio.to_thread(strike)
        return bool(await asyncio.to_thread(numbers, stack, expr))

    await until_awaited(struck, f"{panel} ({legend}) has data", PATIENCE_S)


async def accepted(client: Client, script: str, backend: str) -> str:
    """Post until a system that may just have been mended takes it; gives the task's id."""
    conversation, taken = await client.conversation(), list[str]()

    async def is_taken() -> bool:
        answer = await client.http.post(
            f"/conversations/{conversation}/messages",
            json={"content": "Hello", "model": f"scripted?{script}"},
            headers={"X-Streamgauge-Backend": backend},
        )
        taken.extend([answer.json()["task_id"]] if answer.status_code == 202 else [])
        return bool(taken)

    await until_awaited(is_taken, "the message is accepted", PATIENCE_S)
    return taken[0]


@contextlib.asynccontextmanager
async def watched(client: Client, backend: str = "pubsub") -> AsyncIterator[UUID]:
    """A long answer under way, with a viewer; gives its task."""
    task_id, begun = await accepted(client, LONG, backend), asyncio.Event()

    async def follow() -> None:
        with contextlib.suppress(httpx2.HTTPError):
            async for _ in client.follow(task_id):
                begun.set()

    following = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        yield UUID(task_id)
    finally:
        following.cancel()
        await asyncio.wait([following])
        await client.http.post(f"/stream/{task_id}/cancel")


async def test_a_second_attempt_fences_the_first(stack: Stack, client: Client) -> None:
    """Its task is delivered once more while the first worker lives."""
    async with watched(client) as task_id, Queue.connect(stack.broker_url) as queue:
        await queue.put(task_id)
        await shows(stack, INTEGRITY, "fenced, ")


async def test_a_lost_reply_makes_an_append_repeat(stack: Stack, client: Client) -> None:
    """Connections to the chunk store are cut while appends are on the way."""
    with redis.Redis.from_url(stack.redis_url) as store:

        def cut() -> None:
            store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            begun = appends(store)
            until(lambda: appends(store) > begun + 30, "appends go on after the cut")

        async with contextlib.AsyncExitStack() as several:
            for _ in range(8):
                await several.enter_async_context(watched(client))
            await shows(stack, INTEGRITY, "repeated append, ", cut)


def appends(store: "redis.Redis") -> int:
    """How many scripts the store has run."""
    found: Any = store.info("commandstats")  # redis-py types it for both worlds
    return int(found.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_what_a_dead_worker_leaves_is_reaped_or_enqueued_again(stack: Stack, client: Client) -> None:
    """A stream of its own once lease and grace are over, by the viewer's API; a task that the broker forgot as well."""
    async with watched(client):
        stack.processes["worker-1"].kill()
        try:
            await accepted(client, "chunks=1", "polling")
            with redis.Redis.from_url(stack.broker_url) as broker:
                assert broker.delete("celery")
            await shows(stack, INTEGRITY, "reaped, ")
            await shows(stack, "Repaired")
        finally:
            stack.restart("worker-1")


async def test_a_message_is_refused_while_the_broker_is_away(stack: Stack, client: Client) -> None:
    """With 503, by the name of what is away."""
    conversation = await client.conversation()
    stack.processes["valkey"].kill()
    try:
        refused = await client.http.post(f"/conversations/{conversation}/messages", json={"content": "Hello"})
        assert refused.status_code == 503
        await shows(stack, "Messages refused, by dependency")
    finally:
        stack.restart("valkey")


async def test_a_limit_of_memory_is_shown(stack: Stack) -> None:
    """Once one is set."""
    with redis.Redis.from_url(stack.redis_url) as store:
        store.config_set("maxmemory", "1gb")
        try:
            await shows(stack, "Memory", "allowed, ")
        finally:
            store.config_set("maxmemory", "0")
