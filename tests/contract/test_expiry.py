"""Nothing lives for ever: every key has a TTL after every step, and a log that is gone is said to be gone."""

import asyncio

import pytest
import redis

from app.streaming import keys
from app.streaming.contract import ChunkType, StreamMissingError
from tests.contract.backends import TTL_S, Streams
from tests.contract.moves import begin, content, ending, lease_ran_out, opened, reset, watch, write

pytestmark = pytest.mark.anyio
in_a_chunk_store = pytest.mark.parametrize(
    "backend",
    ["pubsub-valkey", "pubsub-redis", "pubsub-cluster", "streams-valkey", "streams-redis"],
    indirect=True,
)


def lifetimes(stores: list[str]) -> list[int]:
    """The TTL in seconds of every key that is one stream's."""
    found = []
    for url in stores:
        with redis.Redis.from_url(url) as client:
            found += [int(client.ttl(key)) for key in client.scan_iter("stream:*")]
    return found


async def test_a_log_that_expired_is_said_to_be_missing(streams: Streams) -> None:
    """To who comes, at once; and to who is watching, after a silence."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    early = asyncio.create_task(watch(streams, task_id, 1))
    await asyncio.sleep(0)
    await write(streams, task_id, ending(1))
    assert len(await early) == 1
    await streams.expire(task_id)
    assert await streams.reader.get_chunks(task_id) == []
    with pytest.raises(StreamMissingError):
        await watch(streams, task_id)


@in_a_chunk_store
async def test_every_step_leaves_every_key_with_a_ttl(streams: Streams, stores: list[str]) -> None:
    """From the first to the last; a step without one would leak a key each time that a process dies after it."""
    task_id = await streams.new()
    assert lifetimes(stores) == [TTL_S]
    await begin(streams, task_id)
    await write(streams, task_id, content(0))
    await streams.writer.renew(task_id, 1)
    await streams.writer.cancel(task_id)
    await begin(streams, task_id)
    await write(streams, task_id, reset(1, 2), ending(2, attempt=2))
    assert all(TTL_S - 5 <= seconds <= TTL_S for seconds in lifetimes(stores))
    assert len(lifetimes(stores)) == 2


@in_a_chunk_store
@pytest.mark.parametrize("step", ["renew", "open", "end"])
async def test_the_ttl_slides(streams: Streams, stores: list[str], step: str) -> None:
    """Each renewal gives list and hash their whole TTL again, and so do the next attempt and the end."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    for url in stores:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter():
                client.expire(key, 5)
    if step == "end":
        await write(streams, task_id, ending(1))
    elif step == "renew":
        await streams.writer.renew(task_id, 1)
    else:
        await begin(streams, task_id)
    assert all(seconds > TTL_S - 5 for seconds in lifetimes(stores))


@in_a_chunk_store
async def test_a_reaped_stream_has_a_ttl_too(hasty_streams: Streams, stores: list[str]) -> None:
    """Even one that never had a chunk before its end."""
    task_id = await hasty_streams.new()
    await lease_ran_out(hasty_streams, task_id)
    assert await hasty_streams.reader.reap(task_id, ending(0, ChunkType.FAILED), grace_s=0)
    assert [seconds > TTL_S - 5 for seconds in lifetimes(stores)] == [True, True]


@in_a_chunk_store
async def test_a_log_that_was_deleted_in_mid_stream_is_not_begun_anew(streams: Streams, stores: list[str]) -> None:
    """Its index would no longer be the list's: the producer is told, and hands the stream over."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    for url in stores:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter():
                if key.decode() in {keys.chunks_key(task_id), keys.log_key(task_id)}:
                    client.delete(key)
    assert (await streams.writer.append(task_id, content(2))).outcome == "missing"
    assert await streams.reader.get_chunks(task_id) == []
    with pytest.raises(StreamMissingError):
        await watch(streams, task_id)


@in_a_chunk_store
async def test_a_discarded_stream_leaves_nothing(streams: Streams, stores: list[str]) -> None:
    """And who was already watching learns of it."""
    task_id = await streams.new()
    watching = asyncio.create_task(watch(streams, task_id))
    await asyncio.sleep(0)
    await streams.writer.discard(task_id)
    with pytest.raises(StreamMissingError):
        await watching
    assert lifetimes(stores) == []
