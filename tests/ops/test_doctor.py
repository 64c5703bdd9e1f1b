"""`streamgauge doctor` says of each part whether it is well, and what to do where it is not."""

import asyncpg
import pytest

from app.settings import Settings
from ops.doctor import Diagnosis, examine
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.anyio
NOWHERE = "redis://127.0.0.1:1/0"


async def found_by(settings: Settings) -> dict[str, Diagnosis]:
    return {each.name: each for each in await examine(settings, repair=False)}


async def test_a_system_that_is_well(system: Stack) -> None:
    """Every part answers, and so do the workers, by their names."""
    found = await found_by(settings_of(system))
    del found["messages"]  # other tests leave some behind
    assert list(found) == ["database", "chunk store", "broker", "workers"]
    assert all(each.is_well for each in found.values()), found
    assert found["workers"].detail.startswith("1 answered: worker-1")


async def test_what_is_away_is_named_with_what_to_check(system: Stack) -> None:
    """Each part by itself; messages are only looked for where all servers are well."""
    found = await found_by(settings_of(system, redis_url=NOWHERE))
    assert set(found) == {"database", "chunk store", "broker", "workers"}
    assert [name for name, each in found.items() if not each.is_well] == ["chunk store"]
    assert "REDIS_URL" in found["chunk store"].fix


async def test_a_store_that_evicts_is_not_well(system: Stack) -> None:
    """One with another eviction policy would throw away chunks of running streams."""
    with running_valkey(options=("--maxmemory-policy", "allkeys-lru")) as store:
        found = await found_by(settings_of(system, redis_url=store.url))
    assert not found["chunk store"].is_well
    assert "allkeys-lru" in found["chunk store"].detail


async def test_a_queue_that_no_worker_takes_from_is_not_well(system: Stack) -> None:
    """All servers answer, and yet no message would be answered."""
    with running_valkey() as broker:
        found = await found_by(settings_of(system, broker_url=broker.url))
    assert [name for name, each in found.items() if not each.is_well and name != "messages"] == ["workers"]
    assert "celery -A app.worker worker" in found["workers"].fix


async def test_a_worker_that_is_paused_is_as_a_dead_one(system: Stack) -> None:
    """It holds its connections, and takes nothing."""
    worker = system.processes["worker-1"]
    worker.pause()
    try:
        found = await found_by(settings_of(system))
    finally:
        worker.resume()
    assert not found["workers"].is_well


@pytest.mark.parametrize(
    ("revision", "detail", "fix"),
    [
        (None, "no tables of ours", "streamgauge migrate"),
        ("0001", "its schema is 0001", "streamgauge migrate"),
        ("9999", "a newer streamgauge's", "Use that one"),
    ],
)
async def test_a_database_without_our_schema_is_told_apart(
    system: Stack, revision: str | None, detail: str, fix: str
) -> None:
    """From one that is away, and from one that another version has made."""
    connection = await asyncpg.connect(system.database_url)
    try:
        await connection.execute("CREATE DATABASE other")
        url = system.database_url.rpartition("/")[0] + "/other"
        if revision is not None:
            other = await asyncpg.connect(url)
            await other.execute("CREATE TABLE alembic_version (version_num text)")
            await other.execute("INSERT INTO alembic_version VALUES ($1)", revision)
            await other.close()
        found = await found_by(settings_of(system, database_url=url))
        await connection.execute("DROP DATABASE other WITH (FORCE)")
    finally:
        await connection.close()
    assert detail in found["database"].detail
    assert fix in found["database"].fix
