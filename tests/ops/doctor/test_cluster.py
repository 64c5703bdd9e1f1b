"""A chunk store that is a cluster: a fault on any node is found, and named by its address."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.database import Database
from app.records import Records
from app.settings import Settings
from app.streaming.keys import chunks_key, meta_key
from ops.doctor.clocks import examine_store_clock
from ops.doctor.store import examine_live_keys, examine_store, holds_chunks
from tests.ops.doctor.findings import only, troubles
from tests.ops.doctor.planted import NOWHERE
from tests.support.valkey_cluster import RunningCluster, call, running_cluster
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
BUFFER = "pubsub 256mb 64mb 60"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    """Three healthy nodes."""
    with running_cluster() as found:
        for node in found.nodes:
            call(node, "CONFIG SET", "client-output-buffer-limit", BUFFER)
        yield found


@pytest.fixture
def settings(cluster: RunningCluster, database_url: str) -> Iterator[Settings]:
    yield Settings(redis_url=cluster.url, broker_url=NOWHERE, store_cluster=True, database_url=database_url)
    for node in cluster.nodes:
        call(node, "FLUSHALL")


def on_each_node(cluster: RunningCluster) -> list[UUID]:
    """A stream for each node, in their order."""
    return [
        next(task_id for task_id in iter(uuid4, None) if cluster.owner(meta_key(task_id)) is node)
        for node in cluster.nodes
    ]


async def test_a_healthy_cluster_has_nothing_to_report(settings: Settings) -> None:
    """Each of its nodes is examined, and its clock."""
    assert await troubles(examine_store(settings)) == {}
    assert len([found.check async for found in examine_store(settings) if found.check.endswith(".memory")]) == 3
    assert len([found.check async for found in examine_store_clock(settings)]) == 3


async def test_a_fault_of_one_node_is_found_there(cluster: RunningCluster, settings: Settings) -> None:
    """Although the URL names another node."""
    _, second, third = cluster.nodes
    call(second, "HSET", meta_key(on_each_node(cluster)[1]), "state", "open")
    call(third, "CONFIG SET", "maxmemory-policy", "allkeys-lru")
    try:
        found = await troubles(examine_store(settings))
    finally:
        call(third, "CONFIG SET", "maxmemory-policy", "noeviction")
    assert set(found) == {
        f"store 127.0.0.1:{second.port}.ttl",
        f"store 127.0.0.1:{third.port}.eviction",
    }
    assert "running streams' chunks" in found[f"store 127.0.0.1:{third.port}.eviction"].finding


async def test_a_node_that_is_stopped_is_named(cluster: RunningCluster, settings: Settings) -> None:
    """The others are examined all the same."""
    stopped = cluster.nodes[1]
    stopped.pause()
    try:
        found = await troubles(examine_store(settings))
    finally:
        stopped.resume()
        until(lambda: "cluster_slots_ok:16384" in str(call(cluster.nodes[0], "CLUSTER INFO")), "it is back")
    only(found, f"store 127.0.0.1:{stopped.port}.connection", "", "stopped or overloaded")


async def test_running_streams_are_looked_for_on_their_nodes(cluster: RunningCluster, settings: Settings) -> None:
    """One of them is gone, and the others are where they belong."""
    connection = await asyncpg.connect(settings.database_url)
    async with Database.connect(settings.database_url, 1) as database:
        records = Records(database)
        conversation = await records.add_conversation(None)
        posted = [await records.post(conversation.id, "hello", "scripted", None, "pubsub", 60) for _ in range(8)]
    try:
        await connection.execute("UPDATE stream SET created_at = now() - interval '1 minute'")
        names = [meta_key(each.task_id) for each in posted if each is not None]
        for name in names[1:]:
            call(cluster.owner(name), "HSET", name, "state", "open")
        found = await troubles(examine_live_keys(settings, connection))
    finally:
        await connection.execute("DELETE FROM conversation")
        await connection.close()
    only(found, "store.gone", f"{names[0]} is -2", "uptime_in_seconds")
    assert found["store.gone"].finding.startswith("1 of 8")


async def test_the_canary_sees_chunks_on_any_node(cluster: RunningCluster, settings: Settings) -> None:
    """So that no model is blamed for what an API does not hear of."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        for node, task_id in zip(cluster.nodes, on_each_node(cluster), strict=True):
            assert not await holds_chunks(settings, connection, "pubsub", task_id)
            call(node, "RPUSH", chunks_key(task_id), "{}")
            assert await holds_chunks(settings, connection, "pubsub", task_id)
    finally:
        await connection.close()
