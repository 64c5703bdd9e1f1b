"""The queue between API and workers: Celery over Valkey or Redis, and how to put a task into it without blocking."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import redis.asyncio
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from app.telemetry.tracing import traceparent

TASK = "app.generate"
PATIENCE_S = 3.0
THREADS = 4


class BrokerUnavailableError(Exception):
    """The queue did not take the task. Check BROKER_URL and that the server answers."""


def make_celery(broker_url: str) -> Celery:
    """Configure Celery for this broker; workers add their pool."""
    celery = Celery("streamgauge", broker=broker_url)
    celery.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=PATIENCE_S,
        broker_transport_options={"socket_connect_timeout": PATIENCE_S, "socket_timeout": PATIENCE_S},
        task_publish_retry=False,
    )
    return celery


class Queue:
    """Enqueues from an event loop; Celery's own call blocks 1-3 ms, so it runs in a few threads."""

    def __init__(self, celery: Celery, broker_url: str, threads: ThreadPoolExecutor) -> None:
        self._celery, self._broker_url, self._threads = celery, broker_url, threads

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, broker_url: str) -> AsyncIterator["Queue"]:
        """Own the producing connections for the length of the block."""
        celery = make_celery(broker_url)
        threads = ThreadPoolExecutor(THREADS, thread_name_prefix="enqueue")
        try:
            yield cls(celery, broker_url, threads)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            celery.close()

    async def put(self, task_id: UUID) -> None:
        """Enqueue the generation of one message. Raises `BrokerUnavailableError`."""
        try:
            async with asyncio.timeout(2 * PATIENCE_S):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._put, task_id)
        except (OperationalError, RedisError, OSError, TimeoutError) as error:
            raise BrokerUnavailableError(f"the broker did not take the task: {error}") from error

    async def depth(self) -> int:
        """Count the messages that no worker has fetched. Raises `BrokerUnavailableError`."""
        return int(await self._ask("LLEN", self._celery.conf.task_default_queue))

    async def ping(self) -> None:
        """Raise `BrokerUnavailableError` unless the broker answers."""
        await self._ask("PING")

    async def _ask(self, *command: str) -> Any:
        client = redis.asyncio.from_url(self._broker_url, socket_connect_timeout=PATIENCE_S, socket_timeout=PATIENCE_S)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py types it not at all
        except (RedisError, OSError, TimeoutError) as error:
            raise BrokerUnavailableError(str(error)) from error
        finally:
            await client.aclose()

    def _put(self, task_id: UUID) -> None:
        name, headers = str(task_id), {"traceparent": traceparent(task_id)}
        self._celery.send_task(TASK, args=[name], task_id=name, ignore_result=True, headers=headers)
