"""The servers' own counters, the system's metrics and its processes' CPU, read before and after each block.

Neither the application nor the load generator is asked how much it queried: PostgreSQL and Valkey are.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import redis

from loadtest.watched import System

NOT_TO_BE_HAD = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidPasswordError,
    asyncpg.ProtocolViolationError,  # PgBouncer's word for a database that it does not know
)
# What Celery's transport uses the server for, and what watching it costs: not operations of the stream store. The
# two share one server in the embedded stack. Commands that a script runs inside the server are counted like others.
NOT_STORE = frozenset({
    "brpop", "lpush", "rpop", "zadd", "zrem", "zrangebyscore", "zrevrangebyscore", "sadd", "smembers", "srem",
    "multi", "exec", "watch", "unwatch", "info", "ping", "hello", "auth", "select", "client", "config", "command",
})  # fmt: skip
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, redis.RedisError)
READ_S = 5.0


class CountersError(RuntimeError):
    """A server that was named cannot be asked; the message says what to check."""


class Counters(msgspec.Struct, frozen=True):
    """Totals since the servers' start; null where no server was given to ask.

    `metrics` are the system's own, `cpu_s` its processes' by name.
    """

    at_ns: int
    transactions: int | None
    store_calls: dict[str, int] | None
    metrics: dict[str, float] | None = None
    cpu_s: dict[str, float] | None = None


class Meter:
    """Reads both servers and the system; without a URL, that side is null. Reading adds nothing to what it counts.

    A server that answered at first and does so no longer is null too: the run goes on, and its streams tell more.

    Transactions stand for queries: on the hot path each statement is a transaction of its own, and so is each waking of
    a session that listens. A PostgreSQL process reports its transactions at most once a second, and what it holds back
    when it goes idle only ten seconds later (PGSTAT_MIN_INTERVAL, PGSTAT_IDLE_INTERVAL), so a reading lags by up to a
    second of traffic per connection. `usage` says how the backends are told apart all the same.
    """

    def __init__(self, database_url: str | None, redis_url: str | None, clock: Any, system: System = System()) -> None:  # noqa: B008 - frozen
        self._clock = clock
        self.system = system
        self._database_url = database_url
        self._runner = asyncio.Runner()
        self._database: Any = None
        self._store: Any = redis.Redis.from_url(redis_url, socket_timeout=READ_S) if redis_url else None

    def __enter__(self) -> Self:
        try:
            if self._database_url:
                self._database = self._runner.run(_connect(self._database_url))
            if self._store is not None:
                self._store.ping()
        except AWAY as error:
            self._close()
            raise CountersError(
                f"the servers' counters cannot be read ({error}): check DATABASE_URL and REDIS_URL"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._database is not None:
            with contextlib.suppress(*AWAY):
                self._runner.run(self._database.close(timeout=READ_S))
        self._runner.close()
        if self._store is not None:
            self._store.close()

    def read(self) -> Counters:
        """All totals now."""
        return Counters(
            at_ns=self._clock(),
            transactions=self._transactions(),
            store_calls=self._store_calls(),
            metrics=self.system.totals(),
            cpu_s=self.system.cpu_s(),
        )

    def _transactions(self) -> int | None:
        if self._database is None:
            return None
        name = urlsplit(self._database_url or "").path.lstrip("/")
        query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
        with contextlib.suppress(*AWAY):
            return int(self._runner.run(self._database.fetchval(query, name, timeout=READ_S)))
        return None

    def _store_calls(self) -> dict[str, int] | None:
        if self._store is None:
            return None
        with contextlib.suppress(*AWAY):
            stats: Mapping[str, Mapping[str, Any]] = self._store.info("commandstats")
            return {name.removeprefix("cmdstat_"): int(fields["calls"]) for name, fields in stats.items()}
        return None


def store_calls_between(before: Counters, after: Counters) -> dict[str, int] | None:
    """Calls per command that the stream store made, the broker's and the watching ones left out."""
    if before.store_calls is None or after.store_calls is None:
        return None
    grown = {name: calls - before.store_calls.get(name, 0) for name, calls in after.store_calls.items()}
    return {name: calls for name, calls in grown.items() if calls > 0 and name.partition("|")[0] not in NOT_STORE}


async def _connect(url: str) -> Any:
    """A connection to the server's maintenance database, whose own transactions are not counted with the others.

    A pooler may lead to the one database alone, and gives each statement any session: nothing is prepared in it.
    """
    parts = urlsplit(url)
    plain = urlunsplit((parts.scheme.partition("+")[0], *parts[1:]))
    maintenance = urlunsplit((parts.scheme.partition("+")[0], parts.netloc, "/postgres", parts.query, ""))
    try:
        return await asyncpg.connect(maintenance, timeout=10, statement_cache_size=0)
    except NOT_TO_BE_HAD:
        return await asyncpg.connect(plain, timeout=10, statement_cache_size=0)
