"""Reaching a Valkey or Redis server, and what it means when that fails."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from app.redis_pool import NONE_OF_THIS_NAME, pool_to
from app.settings import Settings
from ops.doctor.finding import Finding, error, shortened

PATIENCE_S = 3.0
AWAY = (RedisError, RedisClusterException, OSError, TimeoutError)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Own one client for the length of the block; nothing is tried twice."""
    async with redis.asyncio.Redis.from_pool(pool_to(url, **_options())) as client:
        yield client


@contextlib.asynccontextmanager
async def connected_to_store(settings: Settings) -> AsyncIterator[Any]:
    """Own one client that finds the chunk store's keys, on whichever node of a cluster they are."""
    if settings.store_cluster:
        async with RedisCluster.from_url(settings.redis_url, **_options()) as client:
            yield client
    else:
        async with connected(settings.redis_url) as client:
            yield client


async def store_nodes(settings: Settings) -> dict[str, str]:
    """Give the URL of each node of the chunk store that owns slots, or of its one server, by the name of its checks."""
    async with connected(settings.redis_url) as client:
        if not settings.store_cluster or not (await client.info("cluster")).get("cluster_enabled"):
            return {"store": settings.redis_url}
        slots = await client.execute_command("CLUSTER SLOTS")
    parts = urlsplit(settings.redis_url)
    login, at, _ = parts.netloc.rpartition("@")
    owners = sorted({(host or parts.hostname or "", port) for _first, _last, (host, port, *_), *_replicas in slots})
    addresses = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in owners]
    return {f"store {place}": parts._replace(netloc=f"{login}{at}{place}").geturl() for place in addresses}


def _options() -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_connect_timeout": PATIENCE_S,
        "socket_timeout": PATIENCE_S,
        "retry": Retry(NoBackoff(), 0),
    }


def unreachable(name: str, variable: str, cause: BaseException) -> Finding:
    """Say why a server does not serve us, and what to change."""
    check, evidence = f"{name}.connection", shortened(cause)
    match cause:
        case AuthenticationError() | AuthorizationError():
            return error(check, "refuses the password", evidence, f"Correct user and password in {variable}.")
        case NoPermissionError():
            return error(check, "does not let this user work", evidence, f"Widen the ACL of the user in {variable}.")
        case BusyLoadingError():
            return error(check, "still loads its data", evidence, "Wait until it has; then run the doctor again.")
        case ResponseError() if evidence.startswith("BUSY"):
            return error(
                check,
                "runs a script that lets nobody else in",
                evidence,
                "SCRIPT KILL ends it (a function: FUNCTION KILL); one that has written, only SHUTDOWN NOSAVE does. "
                "Then find its sender.",
            )
        case MasterNotFoundError() if NONE_OF_THIS_NAME in evidence:
            fix = f"Correct the master's name in {variable}: SENTINEL MASTERS at one of them lists those they watch."
            return error(check, "is no master that its sentinels know", evidence, fix)
        case RedisTimeoutError() | TimeoutError():
            return error(
                check,
                f"gives no answer within {PATIENCE_S:g} s",
                evidence,
                "Its process is stopped or overloaded, or a firewall drops packets: look at its process and its load.",
            )
        case _:
            return error(check, "can't be reached", evidence, f"Start the server, or correct {variable}.")
