"""The one subscription of a process: bounded in memory, deaf to nonsense, and mended when it breaks."""

import asyncio

import pytest
import redis

from app.streaming.box import BOX_LIMIT, Box
from app.streaming.contract import ChunkType, Entry, StoreUnavailableError
from app.streaming.hub import Hub
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
RECORD = b'{"chunk_index":%d,"chunk_type":"content"}'


def entry(index: int) -> Entry:
    return Entry(index, ChunkType.CONTENT, 0, RECORD % index)


async def test_a_box_stays_bounded_and_sends_its_listener_to_the_log() -> None:
    """However much comes while nobody takes: at most the limit is held, and none of it is passed off as all."""
    box = Box()
    assert await box.take(1) is None, "it begins with the log"
    for index in range(10 * BOX_LIMIT):
        box.put(entry(index))
        assert len(box._entries) <= BOX_LIMIT
    assert await box.take(1) is None
    box.put(entry(7))
    assert await box.take(1) == [entry(7)]
    taking = asyncio.create_task(box.take(60))
    await asyncio.sleep(0)
    box.end_silence(asyncio.get_running_loop().time())
    assert not taking.done(), "its patience is not over"
    box.end_silence(asyncio.get_running_loop().time() + 61)
    assert await taking == [], "a silence"


async def test_listeners_of_one_channel_share_a_subscription(valkey: list[str]) -> None:
    """The server sees one; it goes with the last of them, and nothing is left behind."""
    with redis.Redis.from_url(valkey[0]) as client:

        def subscribers() -> int:
            return int(client.pubsub_numsub("shared")[0][1])

        async def nobody() -> bool:
            return subscribers() == 0

        async with Hub.connect(valkey[0]) as hub:
            async with hub.listen("shared") as one, hub.listen("shared") as other:
                assert subscribers() == 1
                assert [await box.take(1) for box in (one, other)] == [None, None]
                client.publish("shared", RECORD % 3)
                assert [await box.take(5) for box in (one, other)] == [[entry(3)], [entry(3)]]
            await until_awaited(nobody, "nobody is subscribed")
            assert (list(hub._boxes), hub._acks) == ([], {})


async def test_nonsense_on_a_channel_reaches_nobody(valkey: list[str]) -> None:
    """Who publishes what is no record is logged and not believed; what follows arrives."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with Hub.connect(valkey[0]) as hub, hub.listen("open") as box:
            await box.take(1)
            for payload in (b"", b"\xff", b"[]", b'{"chunk_index":"x"}', RECORD % 5):
                client.publish("open", payload)
            assert await box.take(5) == [entry(5)]


async def test_a_broken_connection_sends_every_listener_to_the_log(valkey: list[str]) -> None:
    """At its loss, and again once the subscription is back: what was published in between is in the log."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with Hub.connect(valkey[0]) as hub, hub.listen("one") as one, hub.listen("two") as two:
            assert [await box.take(1) for box in (one, two)] == [None, None]
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            for box in (one, two):
                assert await box.take(5) is None

            async def mended() -> bool:
                return hub._valkey.connected.is_set() and all(ack.done() for ack in hub._acks.values())

            await until_awaited(mended, "both are subscribed again")
            client.publish("two", RECORD % 1)
            while (heard := await two.take(5)) is None:
                pass
            assert heard == [entry(1)]


async def test_a_refused_subscription_is_said_and_the_connection_lives_on() -> None:
    """A user who may not read a channel learns so at once; the others do not notice."""
    with running_valkey() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "viewer", "on", "nopass", "+@all", "~*", "resetchannels", "&allowed")
        async with (
            Hub.connect(server.url.replace("redis://", "redis://viewer:x@")) as hub,
            hub.listen("allowed") as box,
        ):
            await box.take(1)
            with pytest.raises(StoreUnavailableError, match="refused"):
                async with hub.listen("forbidden"):
                    pass
            client.publish("allowed", RECORD % 2)
            assert await box.take(5) == [entry(2)]
            assert hub._valkey.losses == 0
