"""Viewers who leave at any byte, by thousands, or die without a word: nothing of them is left behind."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from time import time_ns
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from app.database import Database
from app.settings import Settings
from app.streaming.contract import Chunk, ChunkType
from app.streaming.pubsub import PubSubWriter, open_pubsub
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.client import Client
from tests.support.serving import serving
from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
VISITS, AT_ONCE = 2000, 100


@contextlib.asynccontextmanager
async def stream_of_ours(settings: Settings, client: Client) -> AsyncIterator[tuple[UUID, PubSubWriter]]:
    """A running stream that only this test produces."""
    posted = await client.post(backend="pubsub")
    async with (
        Database.connect(settings.database_url, 1) as database,
        open_pubsub(settings, database) as (writer, _),
    ):
        task_id = UUID(posted.task_id)
        await writer.open(task_id, 1)
        yield task_id, writer


def word(index: int, text: str = "word ") -> Chunk:
    return Chunk(index, ChunkType.CONTENT, text, 1, 1, time_ns())


def request(task_id: UUID) -> bytes:
    return f"GET /stream/{task_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def viewers() -> float:
    return sum(
        sample.value
        for metric in REGISTRY.collect()
        if metric.name == "streamgauge_viewers"
        for sample in metric.samples
    )


def left(store: RunningValkey) -> dict[str, int]:
    """What a viewer might leave in this process and in the store."""
    with store.client() as client:
        channels = len(client.pubsub_channels())
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "subscriptions": channels,
    }


async def test_thousands_who_leave_at_any_byte_leave_nothing(system: Stack) -> None:
    """No subscription, no task, no file descriptor, wherever in headers, first line or chunks they broke off."""
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url, broker_url=store.url)
        async with serving(settings) as client, stream_of_ours(settings, client) as (task_id, writer):
            for index in range(20):
                await writer.append(task_id, word(index))
            address, order = (client.http.base_url.host, client.http.base_url.port), random.Random(7)

            async def visit() -> None:
                reader, peer = await asyncio.open_connection(*address)
                peer.write(request(task_id)[: order.choice((10, 1000, 1000, 1000))])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await reader.readexactly(order.randrange(2500))
                peer.transport.abort() if order.random() < 0.5 else peer.close()

            async def crowd(visits: int) -> None:
                for _ in range(visits // AT_ONCE):
                    await asyncio.gather(*(visit() for _ in range(AT_ONCE)))

            await crowd(AT_ONCE)
            before = left(store)
            await crowd(VISITS)

            async def are_gone() -> bool:
                now = left(store)
                return viewers() == 0 and now["subscriptions"] == 0 and all(now[k] <= before[k] + 3 for k in now)

            await until_awaited(are_gone, f"as little is left as before: {before}", 30)


async def test_a_viewer_whose_side_is_dead_is_noticed(system: Stack) -> None:
    """One who takes nothing any more is dropped after the write timeout, while the one beside it sees everything."""
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url, broker_url=store.url, write_timeout_s=1)
        async with serving(settings) as client, stream_of_ours(settings, client) as (task_id, writer):
            with socket.socket() as dead:
                dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                dead.connect((client.http.base_url.host, client.http.base_url.port))
                dead.sendall(request(task_id))
                await until_awaited(_watched, "the dead viewer is connected")
                living = asyncio.create_task(client.whole(str(task_id)))
                for index in range(200):
                    await writer.append(task_id, word(index, "x" * 50_000))

                async def is_dropped() -> bool:
                    return viewers() == 1

                await until_awaited(is_dropped, "the dead viewer is dropped, the living one is not", 30)
                await writer.append(task_id, Chunk(200, ChunkType.CANCELLED, "", 1, 0, 5))
                assert len(await living) == 201


async def _watched() -> bool:
    return viewers() > 0
