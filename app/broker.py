"""The queue between API and workers: Celery over Valkey or Redis, and how to put a task into it without blocking."""

import contextlib
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from math import nan
from time import time_ns
from typing import Any
from uuid import UUID, uuid4

import redis.asyncio
from celery import Celery
from celery.utils.nodenames import anon_nodename
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.redis_pool import pool_to, tls_options
from app.sentinel_url import Sentinels
from app.telemetry.tracing import traceparent

TASK = "app.generate"
PATIENCE_S = 3.0
SINCE = "streamgauge_since_ns"
"""The header that says when a message was enqueued; one that is delivered again keeps it."""


class BrokerUnavailableError(Exception):
    """The queue did not take the task. Check BROKER_URL and that the server answers."""


def make_celery(broker_url: str) -> Celery:
    """Configure Celery for this broker; workers add their pool."""
    sentinels = Sentinels.of(broker_url)
    celery = Celery("streamgauge", broker=broker_url)
    celery.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=PATIENCE_S,
        broker_transport_options={"socket_connect_timeout": PATIENCE_S, "socket_timeout": PATIENCE_S},
        task_publish_retry=False,
    )
    if sentinels:
        tls = tls_options(sentinels)
        # The command `celery` sets broker_url from BROKER_URL as it is; these two go before it.
        celery.conf.broker_read_url = celery.conf.broker_write_url = sentinels.kombu()
        celery.conf.broker_use_ssl = {"ssl_cert_reqs": "required", **tls} if sentinels.tls else None
        celery.conf.broker_transport_options |= {
            "master_name": sentinels.master,
            "sentinels": sentinels.addresses,
            "sentinel_kwargs": sentinels.asking(tls),
        }
    return celery


class Queue:
    """Enqueues from an event loop, over connections that are kept.

    It writes the very message that Celery's `send_task` would (a test holds the two together), since that call blocks
    for 1 to 3 ms and would need threads. Workers are Celery's own.
    """

    def __init__(self, client: "redis.asyncio.Redis", celery: Celery) -> None:
        self._client, self._name = client, celery.conf.task_default_queue
        self._origin, self._reply_to = anon_nodename(), celery.thread_oid

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, broker_url: str) -> AsyncIterator["Queue"]:
        """Own the producing connections for the length of the block; they are made when first needed."""
        pool = pool_to(
            broker_url,
            timeout=PATIENCE_S,
            socket_connect_timeout=PATIENCE_S,
            socket_timeout=PATIENCE_S,
            retry=Retry(NoBackoff(), 0),  # a lost reply is the caller's to judge: a repeat could enqueue twice
        )
        async with redis.asyncio.Redis.from_pool(pool) as client:
            yield cls(client, make_celery(broker_url))

    async def put(self, task_id: UUID) -> None:
        """Enqueue the generation of one message. Raises `BrokerUnavailableError`."""
        await self._ask("LPUSH", self._name, self._message(str(task_id), traceparent(task_id)))

    async def depth(self) -> int:
        """Count the messages that no worker has fetched. Raises `BrokerUnavailableError`."""
        return int(await self._ask("LLEN", self._name))

    async def oldest_s(self) -> float:
        """Tell how long the next message to be fetched has waited; 0 if there is none, NaN if it does not say.

        Raises `BrokerUnavailableError`.
        """
        message = await self._ask("LINDEX", self._name, "-1")
        if message is None:
            return 0.0
        try:
            since_ns = int(json.loads(message)["headers"][SINCE])
        except (ValueError, KeyError):  # another producer's, such as an API's of an older version
            return nan
        return max(0.0, (time_ns() - since_ns) / 1e9)

    async def ping(self) -> None:
        """Raise `BrokerUnavailableError` unless the broker answers."""
        await self._ask("PING")

    async def _ask(self, *command: str) -> Any:
        try:
            return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types
        except (RedisError, OSError, TimeoutError) as error:
            raise BrokerUnavailableError(f"the broker did not answer: {error}") from error

    def _message(self, task_id: str, parent: str) -> str:
        """Write a task as Celery 5.6 and kombu do: protocol 2, in JSON, for their Redis transport."""
        body = [[task_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
        headers = {
            "lang": "py",
            "task": TASK,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": repr([task_id]),
            "kwargsrepr": "{}",
            "origin": self._origin,
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            "traceparent": parent,
            SINCE: time_ns(),
        }
        properties = {
            "correlation_id": task_id,
            "reply_to": self._reply_to,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": self._name},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        }
        return json.dumps({
            "body": b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        })  # fmt: skip
