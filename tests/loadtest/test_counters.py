"""The servers' own counters, read from real servers."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from loadtest.counters import Counters, CountersError, Meter, store_calls_between
from ops.valkey_server import running_valkey
from tests.support.waiting import until


@pytest.fixture
def store_url(tmp_path: Path) -> Iterator[str]:
    """A Valkey that nobody else uses."""
    with running_valkey(tmp_path) as server:
        yield server.url


def test_transactions_are_counted_and_the_meters_own_are_not(database_url: str) -> None:
    """Two hundred single statements are two hundred transactions; fifty readings are none."""
    with Meter(database_url, None, time.time_ns) as meter:
        before = meter.read().transactions or 0
        asyncio.run(ask(database_url, 200))  # a connection reports what it held back when it closes
        until(lambda: (meter.read().transactions or 0) >= before + 200, "the transactions are reported")
        for _ in range(50):
            after = meter.read().transactions or 0
        assert after < before + 250


async def ask(url: str, times: int) -> None:
    connection = await asyncpg.connect(url)
    for _ in range(times):
        await connection.execute("SELECT 1")
    await connection.close()


def test_store_calls_are_counted_by_command_without_the_brokers(store_url: str) -> None:
    """What Celery asks of the same server, and the reading itself, do not count."""
    with Meter(None, store_url, time.time_ns) as meter, redis.Redis.from_url(store_url) as client:
        before = meter.read()
        for number in range(10):
            client.set("key", number, ex=60)
        client.lpush("celery", "task")
        client.brpop(["celery"], timeout=1)
        after = meter.read()
    assert store_calls_between(before, after) == {"set": 10}


def test_a_scripts_inner_commands_count(store_url: str) -> None:
    """The server did them, whoever asked."""
    with Meter(None, store_url, time.time_ns) as meter, redis.Redis.from_url(store_url) as client:
        before = meter.read()
        client.eval("server.call('set', KEYS[1], 1, 'EX', 60) return server.call('get', KEYS[1])", 1, "key")
        after = meter.read()
    assert store_calls_between(before, after) == {"eval": 1, "set": 1, "get": 1}


def test_a_server_that_goes_away_has_no_counts_from_then_on(tmp_path: Path) -> None:
    """The measurement goes on: what its streams met is what it is about."""
    with contextlib.ExitStack() as stack:
        with running_valkey(tmp_path) as server:
            meter = stack.enter_context(Meter(None, server.url, lambda: 7))
            assert meter.read().store_calls
        assert meter.read().store_calls is None


def test_without_a_server_there_is_no_count() -> None:
    """Null, not zero."""
    with Meter(None, None, lambda: 7) as meter:
        assert meter.read() == Counters(7, None, None)


@pytest.mark.parametrize(
    ("database_url", "redis_url"),
    [("postgresql://nobody@127.0.0.1:1/none", None), (None, "redis://127.0.0.1:1/0")],
)
def test_a_server_that_cannot_be_asked_is_named(database_url: str | None, redis_url: str | None) -> None:
    """Rather than a run without counters that nobody notices."""
    with (
        pytest.raises(CountersError, match="check DATABASE_URL and REDIS_URL"),
        Meter(database_url, redis_url, time.time_ns),
    ):
        pass
