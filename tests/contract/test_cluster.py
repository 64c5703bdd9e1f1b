"""What a cluster adds: slots that move under live streams, and nodes that are lost one at a time."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from app.streaming import keys
from app.streaming.cluster import slot_of
from app.streaming.contract import StoreUnavailableError
from tests.contract.backends import Streams, open_streams
from tests.contract.moves import begin, content, ending, following, indexes, insist, opened, take_over, watch, write
from tests.support.valkey import RunningValkey
from tests.support.valkey_cluster import RunningCluster, call, node_id
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


@pytest.fixture
async def streams(cluster: RunningCluster, database_url: str) -> AsyncIterator[Streams]:
    async with open_streams("pubsub-cluster", database_url, [node.url for node in cluster.nodes], 60) as streams:
        yield streams


def home(cluster: RunningCluster, task_id: UUID) -> RunningValkey:
    return cluster.owner(keys.meta_key(task_id))


async def one_on_each(streams: Streams, cluster: RunningCluster) -> dict[int, UUID]:
    """An opened stream on every node, by the node's port."""
    found: dict[int, UUID] = {}
    while len(found) < len(cluster.nodes):
        task_id = await streams.new()
        if found.setdefault(home(cluster, task_id).port, task_id) == task_id:
            await begin(streams, task_id)
    return found


async def test_slots_are_counted_as_the_server_counts_them(cluster: RunningCluster) -> None:
    """With a hash tag, without, and with braces that hold nothing."""
    for name in ("plain", "stream:{tag}:meta", "a{}b", "{x}{y}", "half{open", keys.channel(UUID(int=5))):
        assert slot_of(name) == call(cluster.nodes[0], "CLUSTER KEYSLOT", name)


async def test_all_names_of_a_stream_are_on_one_node(streams: Streams, cluster: RunningCluster) -> None:
    """Its keys are where its channel is published, and its messages cross to no other node."""
    task_id = await opened(streams)
    viewer = asyncio.create_task(watch(streams, task_id))
    await write(streams, task_id, content(0))
    owner, found = home(cluster, task_id), dict[int, tuple[int, int]]()
    for node in cluster.nodes:
        subscribed = call(node, "PUBSUB SHARDNUMSUB", keys.channel(task_id))[1]
        found[node.port] = (int(call(node, "DBSIZE")), int(subscribed))
    await write(streams, task_id, ending(1))
    assert indexes(await viewer) == [0, 1]
    assert found == {node.port: (2, 1) if node is owner else (0, 0) for node in cluster.nodes}


async def test_a_slot_that_moves_under_a_live_stream_costs_no_chunk(streams: Streams, cluster: RunningCluster) -> None:
    """Producer and viewers follow it to its new node; there is no hole and no repeat, and a cancel still arrives."""
    task_id = await opened(streams)
    viewers = [asyncio.create_task(watch(streams, task_id)) for _ in range(3)]
    ear = asyncio.create_task(hear_cancel(streams, task_id))
    await write(streams, task_id, *(content(index) for index in range(5)))
    first = home(cluster, task_id)
    for _ in range(2):
        target = next(node for node in cluster.nodes if node is not home(cluster, task_id))
        await asyncio.to_thread(cluster.move, keys.meta_key(task_id), target)
        at = (await streams.reader.get_chunks(task_id))[-1].index + 1
        for index in range(at, at + 5):
            await insist(streams, task_id, content(index))
    assert await streams.writer.cancel(task_id) == "open"
    async with asyncio.timeout(10):
        await ear
    await insist(streams, task_id, ending(15))
    for viewer in viewers:
        assert indexes(await viewer) == list(range(16))
    assert home(cluster, task_id) is first or len(cluster.nodes) > 2


async def test_streams_refuses_a_cluster_on_both_sides(cluster: RunningCluster, database_url: str) -> None:
    """One read can't span its slots. Each error names the way out; a stream of before counts as unreachable."""
    task_id = UUID(int=5)
    async with open_streams("streams-cluster", database_url, [node.url for node in cluster.nodes], 60) as streams:
        for attempted in (
            streams.writer.create(task_id),
            streams.writer.open(task_id, 1),
            streams.writer.append(task_id, content(0)),
            streams.writer.wait_cancel(task_id),
            streams.writer.cancel(task_id),
            streams.writer.discard(task_id),
            streams.reader.status(task_id),
            streams.reader.get_chunks(task_id),
            anext(streams.reader.follow(task_id, 0)),
        ):
            with pytest.raises(StoreUnavailableError, match="single server; use `pubsub`"):
                await attempted


async def hear_cancel(streams: Streams, task_id: UUID) -> None:
    while True:
        try:
            return await streams.writer.wait_cancel(task_id)
        except StoreUnavailableError:
            await asyncio.sleep(0.02)  # as the producer does, in its own time


async def test_a_slot_on_its_way_is_asked_for_where_it_goes(streams: Streams, cluster: RunningCluster) -> None:
    """A new stream in a slot that is being moved key by key is made on the node that will own it."""
    task_id = await streams.new()
    await streams.writer.discard(task_id)
    slot, source = slot_of(keys.meta_key(task_id)), home(cluster, task_id)
    target = next(node for node in cluster.nodes if node is not source)
    call(target, "CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
    call(source, "CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
    try:
        await streams.writer.create(task_id)
        assert (int(call(source, "DBSIZE")), int(call(target, "DBSIZE"))) == (0, 1)
        with pytest.raises(StoreUnavailableError, match="TRYAGAIN"):  # its list could be on either: ask later
            await streams.writer.open(task_id, 1)
    finally:
        for node in (target, *cluster.nodes):
            call(node, "CLUSTER SETSLOT", slot, "NODE", node_id(target))
    assert (await streams.writer.open(task_id, 1)).attempt == 1
    await write(streams, task_id, content(0), ending(1))
    assert indexes(await watch(streams, task_id)) == [0, 1]


async def test_a_lost_node_costs_its_own_streams_only(streams: Streams, cluster: RunningCluster) -> None:
    """The others go on as if nothing had happened; when it is back, empty, it serves again."""
    spread = await one_on_each(streams, cluster)
    lost = cluster.nodes[1]
    viewers = {
        port: asyncio.create_task(watch(streams, task_id)) for port, task_id in spread.items() if port != lost.port
    }
    lost.kill()
    try:
        with pytest.raises(StoreUnavailableError):
            await streams.writer.append(spread[lost.port], content(0))
        with pytest.raises(StoreUnavailableError):
            await anext(aiter(streams.reader.follow(spread[lost.port], 0)))
        for port in viewers:
            await write(streams, spread[port], content(0), ending(1))
            assert indexes(await viewers[port]) == [0, 1]
    finally:
        lost.start()

    async def serves() -> bool:
        try:
            return await streams.reader.status(spread[lost.port]) is None
        except StoreUnavailableError:
            return False

    await until_awaited(serves, "the node serves its slots again, and has forgotten its streams", 30)
    await streams.writer.create(spread[lost.port])
    attempt = (await take_over(streams, spread[lost.port])).attempt
    batches = following(streams, spread[lost.port])
    await write(streams, spread[lost.port], content(0, attempt=attempt), ending(1, attempt=attempt))
    assert indexes([entry async for entries in batches for entry in entries]) == [0, 1]
