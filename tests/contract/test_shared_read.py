"""The one read of a process over all the logs that it follows: it includes who joins, and is mended when it breaks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import redis

from app.streaming import keys
from app.streaming.box import Box
from app.streaming.contract import ChunkType, Entry
from app.streaming.tail import BLOCK_MS, Tail
from app.streaming.valkey import PATIENCE_S, Valkey
from tests.contract.backends import TTL_S
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
RECORD = b'{"chunk_index":%d,"chunk_type":"content"}'


@contextlib.asynccontextmanager
async def tailing(url: str) -> AsyncIterator[Tail]:
    async with Valkey.connect(url) as commands, Tail.connect(url, commands) as tail:
        yield tail


def entry(index: int) -> Entry:
    return Entry(index, ChunkType.CONTENT, 0, RECORD % index)


def add(client: "redis.Redis", log: str, *indexes: int) -> None:
    for index in indexes:
        client.xadd(log, {"record": RECORD % index}, id=f"{index + 1}-0")
    client.expire(log, TTL_S)


def told(client: "redis.Redis", section: str) -> dict[str, Any]:
    return dict(cast(Any, client.info(section)))


def reads(client: "redis.Redis", of_which: str = "calls") -> int:
    return int(told(client, "commandstats").get("cmdstat_xread", {of_which: 0})[of_which])


async def a_read_waits(client: "redis.Redis") -> None:
    async def is_so() -> bool:
        return bool(told(client, "clients")["blocked_clients"])

    await until_awaited(is_so, "a read waits")


async def heard(box: Box) -> list[Entry]:
    """What comes into the box, whatever gaps come before."""
    async with asyncio.timeout(10):
        while (entries := await box.take(5)) is None:
            pass
    return entries


async def test_who_joins_gets_what_is_stored_from_then_on(valkey: list[str]) -> None:
    """And nothing that was there before: for that there is the log."""
    with redis.Redis.from_url(valkey[0]) as client:
        add(client, "log", 0, 1, 2)
        async with tailing(valkey[0]) as tail, tail.listen("log") as one, tail.listen("log") as other:
            assert [await box.take(1) for box in (one, other)] == [None, None]
            add(client, "log", 3, 4)
            for box in (one, other):
                found: list[Entry] = []
                while len(found) < 2:
                    found += await heard(box)
                assert found == [entry(3), entry(4)]


async def test_a_read_that_waits_is_ended_for_who_joins(valkey: list[str]) -> None:
    """By an entry of the process's own wake key, of which one is kept. A log that nobody has begun is included too."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with tailing(valkey[0]) as tail, contextlib.AsyncExitStack() as joined:
            for turn in range(3):
                await a_read_waits(client)
                box = await joined.enter_async_context(tail.listen(f"log {turn}"))
                add(client, f"log {turn}", 0)
                assert await heard(box) == [entry(0)]
            (wake,) = client.scan_iter("streams:wake:*")
            assert client.xlen(wake) == 1
            assert 0 < client.ttl(wake) <= keys.SHARED_TTL_S


async def test_who_leaves_is_not_read_for_any_more(valkey: list[str]) -> None:
    """Only the last listener takes the log along; another who comes later begins anew."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with tailing(valkey[0]) as tail:
            shared = len(tail._places)
            async with tail.listen("log") as box:
                async with tail.listen("log"):
                    pass
                assert len(tail._places) == shared + 1
                add(client, "log", 0)
                assert await heard(box) == [entry(0)]
            assert (len(tail._places), len(tail._names), list(tail._boxes)) == (shared, shared, [])
            add(client, "log", 1, 2)
            async with tail.listen("log") as box:
                add(client, "log", 3)
                assert await heard(box) == [entry(3)]


async def test_nonsense_in_a_log_reaches_nobody(valkey: list[str]) -> None:
    """What is no record is logged and skipped; what follows arrives."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with tailing(valkey[0]) as tail, tail.listen("log") as box:
            for record in (b"", b"\xff", b"[]", b'{"chunk_index":"x"}'):
                client.xadd("log", {"record": record})
            client.xadd("log", {"record": RECORD % 5})
            client.expire("log", TTL_S)
            assert await heard(box) == [entry(5)]


async def test_a_stop_is_told_to_who_listens_for_it(valkey: list[str]) -> None:
    """And to no other; it is heard while the read waits for logs as well."""
    meant, other = UUID(int=1), UUID(int=2)
    with redis.Redis.from_url(valkey[0]) as client:
        async with (
            tailing(valkey[0]) as tail,
            tail.listen_for_stop(meant) as one,
            tail.listen_for_stop(other) as two,
        ):
            await a_read_waits(client)
            assert [await box.take(1) for box in (one, two)] == [None, None]
            waiting = asyncio.create_task(two.take(60))
            client.xadd(keys.STOPS_KEY, {"task_id": str(meant)})
            client.expire(keys.STOPS_KEY, TTL_S)
            assert await one.take(10) is None
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def test_a_read_that_waits_is_no_dead_server(valkey: list[str]) -> None:
    """However long nothing happens: each read ends well before a server's silence is taken for its death."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with tailing(valkey[0]) as tail, tail.listen(str(uuid4())) as box:
            await box.take(1)
            before, enough = reads(client), 1.5 * PATIENCE_S / (BLOCK_MS / 1000)

            async def has_waited() -> bool:
                return reads(client) - before > enough

            await until_awaited(has_waited, "it has read in vain for longer than a server may be silent")
            assert tail._reads.losses == 0


async def test_a_server_that_stands_still_is_noticed() -> None:
    """Whoever listens is sent to the log, whose answer tells what is the matter; when it goes on, so does the read."""
    with running_valkey() as server, server.client() as client:
        async with tailing(server.url) as tail, tail.listen("log") as box:
            await box.take(1)
            server.pause()
            try:
                assert await box.take(10) is None
            finally:
                server.resume()
            await until_awaited(lambda: _connected(tail), "it is connected again")
            add(client, "log", 0)
            assert await heard(box) == [entry(0)]


async def _connected(tail: Tail) -> bool:
    return tail._reads.connected.is_set()


async def test_a_broken_connection_costs_no_entry(valkey: list[str]) -> None:
    """Everybody is sent to the log, and reading goes on from where it was: what was stored meanwhile comes."""
    with redis.Redis.from_url(valkey[0]) as client:
        async with tailing(valkey[0]) as tail, tail.listen("log") as box:
            await box.take(1)
            for turn in range(3):
                losses = tail._reads.losses
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

                async def is_lost(losses: int = losses) -> bool:
                    return tail._reads.losses > losses

                await until_awaited(is_lost, "the connection is lost")
                assert await box.take(5) is None
                add(client, "log", turn)
                assert await heard(box) == [entry(turn)]


async def test_a_refused_read_is_tried_again() -> None:
    """Its user was forbidden to read for a while; nobody is thrown out for it, and nothing is lost."""
    with running_valkey() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "viewer", "on", "nopass", "+@all", "~*", "&*")
        async with tailing(server.url.replace("redis://", "redis://viewer:x@")) as tail, tail.listen("log") as box:
            await box.take(1)
            client.execute_command("ACL", "SETUSER", "viewer", "-xread")
            refused = reads(client, "rejected_calls")

            async def is_refused() -> bool:
                return reads(client, "rejected_calls") > refused

            await until_awaited(is_refused, "a read is refused")
            add(client, "log", 0)
            client.execute_command("ACL", "SETUSER", "viewer", "+xread")
            assert await heard(box) == [entry(0)]
            assert tail._reads.losses == 0
