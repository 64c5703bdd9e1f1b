"""What a producer could not end is ended all the same: by the scheduled repair, or by `streamgauge doctor --repair`."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from time import time_ns
from uuid import UUID

import asyncpg
import httpx2
import pytest

from app.broker import Queue
from app.database import UNPREPARED, Database
from app.generation import Services
from app.records import Pin
from app.repair import ALONE, Finding, Repair
from app.settings import Settings
from app.streaming.backends import NAMES
from app.streaming.contract import Chunk, ChunkType, decode
from ops.doctor.messages import examine_messages
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.database import migrated_postgres
from tests.support.serving import answering, begin, producing
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
on_each = pytest.mark.parametrize("backend", NAMES)
USAGE = {"total_tokens": 7}
HASTY = {"lease_s": 0.3, "lease_grace_s": 0.2}


def hasty(system: Stack, **changes: str | float) -> Settings:
    """Settings under which a lease has run out beyond its grace after half a second."""
    return settings_of(system, **HASTY, **changes)


async def left_behind(services: Services, backend: str, *chunks: Chunk) -> UUID:
    """A pending message whose producer has written this much and is no more."""
    conversation = await services.records.add_conversation(None)
    posted = await services.records.post(conversation.id, "hello", "scripted", None, backend, 60)
    assert posted is not None
    writer = services.backends.writers[backend]
    await writer.create(posted.task_id)
    await begin(services, posted.task_id)
    for chunk in chunks:
        await writer.append(posted.task_id, chunk)
    await age(services, posted.task_id)
    return posted.task_id


async def age(services: Services, task_id: UUID) -> None:
    """Let a minute pass, after which a message that is still pending is suspicious."""
    connection = await asyncpg.connect(services.settings.database_url, **UNPREPARED)
    try:
        await connection.execute("UPDATE stream SET created_at = now() - interval '1 min' WHERE task_id = $1", task_id)
    finally:
        await connection.close()


def said(index: int, text: str) -> Chunk:
    return Chunk(index, ChunkType.CONTENT, text, 1, 1, time_ns())


@contextlib.asynccontextmanager
async def repairing(services: Services) -> AsyncIterator[Repair]:
    """The repair as an API process runs it."""
    async with Queue.connect(services.settings.broker_url) as queue:
        yield Repair(services.settings, services.records, services.backends, queue)


async def repaired(services: Services, task_id: UUID) -> Pin:
    """Run the repair until it has ended the message."""
    async with repairing(services) as repair:

        async def has_ended() -> bool:
            await repair.run()
            return (await pin_of(services, task_id)).message.status != "pending"

        await until_awaited(has_ended, "the repair has ended the message")
    return await pin_of(services, task_id)


async def pin_of(services: Services, task_id: UUID) -> Pin:
    pin = await services.records.pin(task_id)
    assert pin is not None
    return pin


@on_each
async def test_a_whole_answer_that_could_not_be_committed_is_committed_from_its_log(
    system: Stack, backend: str
) -> None:
    """`failed/persist` with a finish reason says that only the database was missing."""
    async with producing(hasty(system)) as services:
        unsaved = Chunk(2, ChunkType.FAILED, "", 1, 0, 5, "stop", USAGE, code="persist", retryable=True)
        task_id = await left_behind(services, backend, said(0, "high "), said(1, "water"), unsaved)
        pin = await repaired(services, task_id)
    message = pin.message
    assert (message.status, message.content, message.finish_reason, message.usage) == (
        "complete", "high water", "stop", USAGE,
    )  # fmt: skip
    assert (pin.state, message.code, message.retryable) == ("done", None, None)


async def test_what_the_database_can_not_hold_stops_no_repair(system: Stack) -> None:
    """A NUL in a text becomes U+FFFD; a message that can't be mended is passed over, and does not hold up the rest."""
    async with producing(hasty(system)) as services:
        ends = (Chunk(1, ChunkType.FAILED, "", 1, 0, 5, reason, code="persist") for reason in ("st\0p", "stop"))
        refused, mended = [await left_behind(services, "pubsub", said(0, "high \0 water"), end) for end in ends]
        message = (await repaired(services, mended)).message
        before = (await pin_of(services, refused)).message.status
        async with Database.connect(system.database_url, 1) as database, database.driver() as connection:
            await connection.execute("UPDATE message SET status = 'failed' WHERE task_id = $1", refused)
    assert (message.status, message.content) == ("complete", "high \ufffd water")
    assert before == "pending"


async def test_a_message_of_an_unknown_backend_is_left_alone(system: Stack) -> None:
    """Another version of ours, which was rolled back, knows what to do; it holds up nobody else.

    Its viewers are told, and can try again at a server of that version.
    """
    async with (
        producing(hasty(system)) as services,
        Database.connect(system.database_url, 1) as database,
        database.driver() as connection,
        httpx2.AsyncClient(base_url=system.api_url) as http,
    ):
        unknown, mended = [await left_behind(services, "pubsub", said(0, "high water")) for _ in range(2)]
        await connection.execute("UPDATE stream SET backend = 'pigeon' WHERE task_id = $1", unknown)
        assert (await repaired(services, mended)).message.status == "failed"
        assert (await pin_of(services, unknown)).message.status == "pending"
        for answer in (await http.get(f"/stream/{unknown}"), await http.post(f"/stream/{unknown}/cancel")):
            assert answer.status_code == 503
            assert "in 'pigeon', which this version does not know" in answer.json()["detail"]
        await connection.execute("UPDATE message SET status = 'failed' WHERE task_id = $1", unknown)


@on_each
async def test_an_answer_that_failed_keeps_its_beginning(system: Stack, backend: str) -> None:
    """What was said since the last reset is the message; its status is the terminal's."""
    async with producing(hasty(system)) as services:
        reset = Chunk(1, ChunkType.RESET, "", 1, 0, 5)
        failed = Chunk(3, ChunkType.FAILED, "", 1, 0, 5, code="upstream", retryable=True)
        task_id = await left_behind(services, backend, said(0, "discarded "), reset, said(2, "low"), failed)
        message = (await repaired(services, task_id)).message
    assert (message.status, message.content) == ("failed", "low")
    assert (message.code, message.retryable) == ("upstream", True)


@on_each
async def test_a_lost_producer_is_noticed_though_nobody_watches(system: Stack, backend: str) -> None:
    """Its stream ends with `producer_lost` as if a viewer had been there, and the message keeps what was said."""
    async with producing(hasty(system)) as services:
        task_id = await left_behind(services, backend, said(0, "so far"))
        message = (await repaired(services, task_id)).message
        end = decode((await services.backends.readers[backend].get_chunks(task_id))[-1].record)
    assert (message.status, message.content, message.code) == ("failed", "so far", "producer_lost")
    assert (end.chunk_type, end.code) == (ChunkType.FAILED, "producer_lost")


async def test_a_log_that_is_gone_with_its_producer_ends_the_message(system: Stack) -> None:
    """An hour after a store lost everything, nothing can bring the answer back."""
    with running_valkey() as store:
        async with producing(hasty(system, redis_url=store.url, chunk_ttl_s=1)) as services:
            task_id = await left_behind(services, "pubsub", said(0, "lost"))
            with store.client() as redis:
                redis.flushall()
            pin = await repaired(services, task_id)
    assert (pin.state, pin.message.status, pin.message.content) == ("failed", "failed", "")
    assert pin.message.code == "producer_lost"


async def test_a_claimed_message_without_a_log_waits_no_hour_for_its_end(system: Stack) -> None:
    """A living producer would have moved to rows: who is missed at looks a lease and its grace apart is lost."""
    with running_valkey() as store:
        async with producing(hasty(system, redis_url=store.url)) as services, repairing(services) as repair:
            task_id = await left_behind(services, "pubsub", said(0, "lost"))
            with store.client() as redis:
                redis.flushall()
            first = await repair.run()
            assert (await pin_of(services, task_id)).message.status == "pending"
            assert not first[Finding.GONE], "one look alone may come just before the producer's"

            async def has_ended() -> bool:
                await repair.run()
                return (await pin_of(services, task_id)).message.status != "pending"

            await until_awaited(has_ended, "a later look has ended it")
            pin = await pin_of(services, task_id)
    assert (pin.state, pin.message.status, pin.message.code) == ("failed", "failed", "producer_lost")


@on_each
async def test_what_runs_is_left_alone(system: Stack, backend: str) -> None:
    """However long it takes, a producer that renews its lease is nobody's to end."""
    async with producing(hasty(system)) as services, repairing(services) as repair:
        task_id = await left_behind(services, backend, said(0, "slow"))
        for _ in range(3):
            await services.backends.writers[backend].renew(task_id, 1)
            await repair.run()
        assert (await pin_of(services, task_id)).message.status == "pending"
        await repaired(services, task_id)


async def test_a_task_that_was_lost_on_its_way_is_enqueued_again(system: Stack) -> None:
    """The queue is empty and no worker ever claimed the message: it is answered all the same, once."""
    async with producing(hasty(system)) as services:
        conversation = await services.records.add_conversation(None)
        posted = await services.records.post(conversation.id, "hello", "scripted?chunks=3", None, "polling", 60)
        assert posted is not None
        await age(services, posted.task_id)
        pin = await repaired(services, posted.task_id)
    assert (pin.message.status, pin.state) == ("complete", "done")


async def test_one_process_repairs_at_a_time(system: Stack) -> None:
    """While one is at it the others do nothing: no task is enqueued twice."""
    async with producing(hasty(system)) as services, repairing(services) as repair:
        task_id = await left_behind(services, "polling", said(0, "x"))
        async with services.records.alone(ALONE) as is_alone:
            assert is_alone
            assert not await repair.run()
        assert (await pin_of(services, task_id)).message.status == "pending"
        await repaired(services, task_id)


async def test_a_database_that_dies_before_the_commit_costs_no_answer(system: Stack, tmp_path: Path) -> None:
    """The commit is tried within its budget; then the viewer is told, and the log keeps the text for the repair."""
    with migrated_postgres(tmp_path) as server:
        settings = hasty(system, database_url=server.url, commit_budget_s=0.5)
        async with producing(settings) as services:
            task_id, working = await answering(services)
            reader = services.backends.readers["pubsub"]
            server.process.kill()
            await working
            chunks = [decode(entry.record) for entry in await reader.get_chunks(task_id)]
            assert (chunks[-1].chunk_type, chunks[-1].code) == (ChunkType.FAILED, "persist")
            server.process.restart()
            await until_awaited(lambda: answers(server.url), "the database has recovered")
            await age(services, task_id)
            (found,) = [each async for each in examine_messages(settings, repair=False)]
            assert "1 complete in their log" in found.evidence
            assert "--repair" in found.fix
            (mended,) = [each async for each in examine_messages(settings, repair=True)]
            assert mended.is_well, mended
            message = (await pin_of(services, task_id)).message
    assert (message.status, message.content) == ("complete", "".join(chunk.content for chunk in chunks))


async def answers(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True


async def test_looking_counts_and_changes_nothing(system: Stack) -> None:
    """What `streamgauge doctor` does without `--repair`."""
    async with producing(hasty(system)) as services, repairing(services) as repair:
        task_id = await left_behind(services, "polling", said(0, "x"))

        async def is_seen() -> bool:
            return (await repair.look())[Finding.LOST] > 0

        await until_awaited(is_seen, "the lost producer is found")
        assert (await pin_of(services, task_id)).message.status == "pending"
        await repaired(services, task_id)
