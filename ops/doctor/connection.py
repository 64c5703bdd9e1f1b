"""Reaching a Valkey or Redis server, and what it means when that fails."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from app.redis_pool import pool_to
from ops.doctor.finding import Finding, error, shortened

PATIENCE_S = 3.0
AWAY = (RedisError, OSError, TimeoutError)


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Own one client for the length of the block; nothing is tried twice."""
    pool = pool_to(
        url,
        decode_responses=True,
        socket_connect_timeout=PATIENCE_S,
        socket_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:
        yield client


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
        case RedisTimeoutError() | TimeoutError():
            return error(
                check,
                f"gives no answer within {PATIENCE_S:g} s",
                evidence,
                "Its process is stopped or overloaded, or a firewall drops packets: look at its process and its load.",
            )
        case _:
            return error(check, "can't be reached", evidence, f"Start the server, or correct {variable}.")
