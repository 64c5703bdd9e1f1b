"""How the producer appends: at once while the store keeps up, together while it does not, and never without bound."""

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import time_ns

import pytest
import redis

from app.attempt_ends import CancelledByUserError
from app.generation import Services
from app.producer import WAITING_CHARACTERS, Producer, Store
from app.settings import Settings
from app.speech import Delta, Hear, ModelError
from app.streaming.backends import NAMES
from app.streaming.contract import Chunk, ChunkType, decode
from ops.stack import Stack
from tests.support.garbage import uncollected
from tests.support.serving import producing
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
on_each = pytest.mark.parametrize("backend", NAMES)


@dataclass
class Attempt:
    """A producer at work on a stream of its own, and what it has stored."""

    services: Services
    producer: Producer

    async def say(self, *texts: str) -> list[Chunk]:
        """Produce these deltas, which the model says in one breath; gives the log."""

        async def speak(hear: Hear) -> None:
            for text in texts:
                hear(Delta(text, time_ns()))

        await self.producer.produce(speak, lambda _delta: None)
        return await self.stored()

    async def stored(self) -> list[Chunk]:
        reader = self.services.backends.readers[self.producer.backend]
        return [decode(entry.record) for entry in await reader.get_chunks(self.producer._task_id)]


@contextlib.asynccontextmanager
async def beginning(system: Stack, backend: str) -> AsyncIterator[Attempt]:
    settings = Settings(redis_url=system.redis_url, broker_url=system.redis_url, database_url=system.database_url)
    async with producing(settings) as services:
        conversation = await services.records.add_conversation(None)
        posted = await services.records.post(conversation.id, "hello", "scripted", None, backend, 60)
        assert posted is not None
        writer = services.backends.writers[backend]
        await writer.create(posted.task_id)
        job = await services.records.claim(posted.task_id)
        assert job is not None
        opening = await writer.open(posted.task_id, job.attempt)
        store = Store(backend, writer, services.backends.safe, lease_s=15, patience_s=10)
        yield Attempt(services, Producer(posted.task_id, store, opening, []))


@on_each
async def test_the_first_goes_at_once_and_what_comes_meanwhile_shares_a_chunk(system: Stack, backend: str) -> None:
    """Deltas coalesce only while an append is under way."""
    async with beginning(system, backend) as attempt:
        log = await attempt.say("a", "b", "c", "d")
    assert [(chunk.content, chunk.deltas) for chunk in log] == [("a", 1), ("bcd", 3)]


@on_each
async def test_a_store_that_keeps_up_gets_each_delta_by_itself(system: Stack, backend: str) -> None:
    """A delta that comes after the answer to the one before is a chunk of its own."""
    async with beginning(system, backend) as attempt:

        async def is_answered() -> bool:
            return attempt.producer._unanswered is None

        async def speak(hear: Hear) -> None:
            for index in range(5):
                hear(Delta(f"{index} ", time_ns()))
                await until_awaited(is_answered, "the store has answered")

        await attempt.producer.produce(speak, lambda _delta: None)
        assert [chunk.content for chunk in await attempt.stored()] == ["0 ", "1 ", "2 ", "3 ", "4 "]


@on_each
async def test_a_model_that_outruns_the_store_is_held_up(system: Stack, backend: str) -> None:
    """Beyond a bound of waiting text the model is told to wait, until the store has taken what there was."""
    half = "x" * (WAITING_CHARACTERS // 2 + 1)
    async with beginning(system, backend) as attempt:

        async def speak(hear: Hear) -> None:
            assert [hear(Delta(text, time_ns())) for text in ("first", half)] == [None, None]
            room = hear(Delta(half, time_ns()))
            assert room is not None
            async with asyncio.timeout(10):
                await room
            assert hear(Delta("last", time_ns())) is None

        await attempt.producer.produce(speak, lambda _delta: None)
        assert "".join(chunk.content for chunk in await attempt.stored()) == f"first{half}{half}last"


@on_each
async def test_what_was_said_before_a_failure_is_stored(system: Stack, backend: str) -> None:
    """All of it: what was under way, and what waited."""
    async with beginning(system, backend) as attempt:

        async def speak(hear: Hear) -> None:
            for text in ("all ", "of ", "it"):
                hear(Delta(text, time_ns()))
            raise ModelError("cut", retryable=True)

        with pytest.raises(ModelError):
            await attempt.producer.produce(speak, lambda _delta: None)
        assert "".join(chunk.content for chunk in await attempt.stored()) == attempt.producer.text == "all of it"


@on_each
async def test_an_end_follows_an_append_that_was_interrupted(system: Stack, backend: str) -> None:
    """It takes the next index, whatever the store still had to answer; nothing is stored twice."""
    async with beginning(system, backend) as attempt:

        async def speak(hear: Hear) -> None:
            hear(Delta("a", time_ns()))
            hear(Delta("b", time_ns()))
            raise RuntimeError("a fault of ours")

        with pytest.raises(RuntimeError):
            await attempt.producer.produce(speak, lambda _delta: None)
        await attempt.producer.append(ChunkType.FAILED, code="internal", retryable=True)
        log = await attempt.stored()
    assert [chunk.chunk_index for chunk in log] == list(range(len(log)))
    assert "".join(chunk.content for chunk in log) == attempt.producer.text
    assert [chunk.chunk_type for chunk in log].count(ChunkType.FAILED) == 1 == (log[-1].chunk_type == "failed")


@on_each
async def test_a_stop_that_comes_as_the_last_chunk_is_stored_stays_a_stop(system: Stack, backend: str) -> None:
    """It is no fault of ours: the attempt ends as cancelled, so that its message goes back to the queue."""
    async with beginning(system, backend) as attempt:
        stored = attempt.producer._stored

        def stop_as_it_is_stored(chunk: Chunk) -> None:
            working.cancel()
            stored(chunk)

        attempt.producer._stored = stop_as_it_is_stored  # type: ignore[method-assign]  # this one producer's own
        working = asyncio.create_task(attempt.say("a"))
        with pytest.raises(asyncio.CancelledError):
            await working


@on_each
async def test_a_cancel_is_learned_from_an_answer(system: Stack, backend: str) -> None:
    """At the latest; what the answer was to is stored."""
    async with beginning(system, backend) as attempt:
        await attempt.services.backends.writers[backend].cancel(attempt.producer._task_id)
        with pytest.raises(CancelledByUserError):
            await attempt.say("a")
        await attempt.producer.append(ChunkType.CANCELLED)
        assert "".join(chunk.content for chunk in await attempt.stored()) == attempt.producer.text


async def test_connections_that_break_cost_no_chunk_and_repeat_none(system: Stack) -> None:
    """The connection is cut again and again while the model speaks: the log is whole, and it is what was said."""
    async with beginning(system, "pubsub") as attempt:
        said = [f"{index} " for index in range(60)]

        async def speak(hear: Hear) -> None:
            with redis.Redis.from_url(system.redis_url) as client:
                for index, text in enumerate(said):
                    hear(Delta(text, time_ns()))
                    if index % 20 == 10:
                        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    await asyncio.sleep(0)  # a turn for the producer, between two deltas

        async with asyncio.timeout(20):
            await attempt.producer.produce(speak, lambda _delta: None)
            await attempt.producer.append(ChunkType.DONE, finish_reason="stop")
        log = await attempt.stored()
    assert [chunk.chunk_index for chunk in log] == list(range(len(log)))
    assert "".join(chunk.content for chunk in log) == "".join(said)
    assert sum(chunk.deltas for chunk in log) == len(said)
    assert (log[-1].chunk_type, attempt.producer.backend) == (ChunkType.DONE, "pubsub")


@on_each
async def test_an_attempt_that_has_ended_is_freed_without_a_collection(system: Stack, backend: str) -> None:
    """With the whole log that it held: a full collection would hold up every stream of the process."""
    async with beginning(system, backend) as attempt:
        with uncollected():
            await attempt.say("a", "b")
            await attempt.producer.append(ChunkType.DONE, finish_reason="stop")
            producer = weakref.ref(attempt.producer)
            del attempt.producer
            assert producer() is None
