"""A message's attempts: a newer one takes over, a fenced one leaves no trace, and none says again what is committed."""

import asyncio
from dataclasses import replace
from time import time_ns
from typing import Any
from uuid import UUID

import pytest

from app.generation import Services, generate
from app.llm import Question
from app.records import Final
from app.speech import Delta, Hear
from app.streaming.contract import Chunk, ChunkType
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.client import text_of
from tests.support.serving import begin, producing, serving

pytestmark = pytest.mark.anyio


async def test_a_second_attempt_resets_what_the_first_said(system: Stack) -> None:
    """The viewer sees both, discards the first at the `reset`, and ends with the committed text.

    The model holds the first in mid-answer, which learns from its lease that it is fenced.
    """
    settings = settings_of(system, lease_s=0.3)
    async with producing(settings) as services, serving(settings) as client:
        for backend in ("polling", "pubsub"):
            conversation = await services.records.add_conversation(None)
            script = f"scripted?ttft=0.01&gap=0.01&chunks=20&fault=stall&at=10&tries=1&seed={time_ns() % 10**9}"
            posted = await services.records.post(conversation.id, "hello", script, None, backend, 60)
            assert posted is not None
            await services.backends.writers[backend].create(posted.task_id)
            first = asyncio.create_task(generate(services, posted.task_id, time_ns()))
            following = client.follow(str(posted.task_id))
            events = [await anext(following)]
            await generate(services, posted.task_id, time_ns())
            await first
            events += [event async for event in following]
            pin = await services.records.pin(posted.task_id)
            assert pin is not None
            assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
            assert [event.record["chunk_type"] for event in events].count("reset") == 1
            assert events[-1].record["attempt"] == 2
            assert text_of(events) == pin.message.content


async def test_a_task_that_was_withdrawn_or_is_over_does_nothing(system: Stack) -> None:
    """A redelivery of either is harmless."""
    settings = settings_of(system)
    async with producing(settings) as services:
        await generate(services, UUID(int=7), time_ns())
        conversation = await services.records.add_conversation(None)
        posted = await services.records.post(conversation.id, "hi", "scripted?chunks=3", None, "pubsub", 60)
        assert posted is not None
        await services.backends.writers["pubsub"].create(posted.task_id)
        await generate(services, posted.task_id, time_ns())
        reader = services.backends.readers["pubsub"]
        before = await reader.get_chunks(posted.task_id)
        await generate(services, posted.task_id, time_ns())
        assert await reader.get_chunks(posted.task_id) == before


async def test_a_fenced_attempt_commits_nothing(system: Stack) -> None:
    """Only the newest attempt writes the message, and once it is written nobody else changes it."""
    async with producing(settings_of(system)) as services:
        records = services.records
        conversation = await records.add_conversation(None)
        posted = await records.post(conversation.id, "hi", "scripted", None, "pubsub", 60)
        assert posted is not None
        for _ in range(2):
            await records.claim(posted.task_id)
        stale = Final("complete", "stale", "stop", None, {}, "pubsub")
        newest = Final("complete", "newest", "stop", None, {}, "pubsub")
        assert not await records.commit(posted.task_id, 1, stale)
        assert await records.commit(posted.task_id, 2, newest)
        assert await records.commit(posted.task_id, 2, newest), "a lost reply may be asked for again"
        assert not await records.commit(posted.task_id, 2, stale)
        pin = await records.pin(posted.task_id)
        assert pin is not None
        assert pin.message.content == "newest"


@pytest.mark.parametrize("backend", ["polling", "pubsub"])
@pytest.mark.parametrize("said", ["high ", "high water"], ids=["its log lacks the rest", "its log is whole"])
async def test_a_committed_answer_is_not_generated_again(system: Stack, backend: str, said: str) -> None:
    """An attempt that died between its commit and its terminal leaves the next one only the terminal to write."""
    async with producing(settings_of(system)) as services, serving(settings_of(system)) as client:
        conversation = await services.records.add_conversation(None)
        posted = await services.records.post(conversation.id, "hello", "scripted", None, backend, 60)
        assert posted is not None
        writer = services.backends.writers[backend]
        await writer.create(posted.task_id)
        opening = await begin(services, posted.task_id)
        await writer.append(posted.task_id, Chunk(0, ChunkType.CONTENT, said, opening.attempt, 1, 5))
        final = Final("complete", "high water", "stop", {"total_tokens": 2}, {}, backend)
        assert await services.records.commit(posted.task_id, opening.attempt, final)
        await generate(services, posted.task_id, time_ns())
        events = await client.whole(str(posted.task_id))
    kinds = [event.record["chunk_type"] for event in events]
    assert kinds == (["content", "done"] if said == final.content else ["reset", "content", "done"])
    assert text_of(events) == "high water"
    assert events[-1].record["usage"] == {"total_tokens": 2}


@pytest.mark.parametrize("backend", ["polling", "pubsub"])
async def test_a_failure_that_was_committed_is_told_as_it_was(system: Stack, backend: str) -> None:
    """The attempt that only has the terminal left to write says how the one before it failed."""
    async with producing(settings_of(system)) as services, serving(settings_of(system)) as client:
        conversation = await services.records.add_conversation(None)
        posted = await services.records.post(conversation.id, "hello", "scripted", None, backend, 60)
        assert posted is not None
        await services.backends.writers[backend].create(posted.task_id)
        opening = await begin(services, posted.task_id)
        final = Final("failed", "", None, None, {}, backend, "upstream", retryable=False)
        assert await services.records.commit(posted.task_id, opening.attempt, final)
        await generate(services, posted.task_id, time_ns())
        end = (await client.whole(str(posted.task_id)))[-1].record
    assert (end["chunk_type"], end["code"], end["retryable"]) == ("failed", "upstream", False)


async def asked(services: Services, backend: str, script: str = "scripted") -> UUID:
    """Post a question, and give the task, which nobody has taken yet."""
    conversation = await services.records.add_conversation(None)
    posted = await services.records.post(conversation.id, "hello", script, None, backend, 60)
    assert posted is not None
    return posted.task_id


async def test_an_answer_that_is_too_long_ends_as_one_that_ran_into_its_bound(system: Stack) -> None:
    """What was said until then is the message, whole, and asking again is not called for."""
    settings = settings_of(system, max_answer_chars=40)
    async with producing(settings) as services, serving(settings) as client:
        task_id = await asked(services, "pubsub", "scripted?ttft=0&gap=0&chunks=60")
        await services.backends.writers["pubsub"].create(task_id)
        await generate(services, task_id, time_ns())
        events = await client.whole(str(task_id))
    end = events[-1].record
    assert (end["chunk_type"], end["finish_reason"]) == ("done", "length")
    assert len(text_of(events)) == 40


class Unwritable:
    """A model that says what PostgreSQL can't hold."""

    async def answer(self, _question: Question, hear: Hear) -> None:
        hear(Delta("high \x00 water", time_ns(), finish_reason="stop"))


async def test_what_the_database_can_not_hold_is_not_tried_again(system: Stack) -> None:
    """No wait mends it: the stream ends at once, however long a database that is away would be waited for."""
    settings = settings_of(system, commit_budget_s=3600)
    async with producing(settings) as services, serving(settings) as client:
        task_id = await asked(services, "pubsub")
        await services.backends.writers["pubsub"].create(task_id)
        model: Any = Unwritable()
        async with asyncio.timeout(30):
            await generate(replace(services, model=model), task_id, time_ns())
        end = (await client.whole(str(task_id)))[-1].record
    assert (end["chunk_type"], end["code"]) == ("failed", "persist")


async def test_a_message_that_brings_down_every_attempt_is_given_up(system: Stack) -> None:
    """One that freezes or kills its worker each time fails with `internal`, instead of killing workers for ever."""
    settings = settings_of(system, max_attempts=2)
    async with producing(settings) as services, serving(settings) as client:
        task_id = await asked(services, "polling")
        for _ in range(2):
            await begin(services, task_id)
        await generate(services, task_id, time_ns())
        end = (await client.whole(str(task_id)))[-1].record
    assert (end["chunk_type"], end["code"], end["retryable"]) == ("failed", "internal", False)
