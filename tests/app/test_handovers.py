"""Streams whose chunk store is lost in mid-answer: they go on in the database, and their viewers follow."""

import asyncio
from pathlib import Path
from time import time_ns
from typing import Any
from uuid import UUID

import pytest

from app.generation import generate
from app.streaming import keys
from ops.stack import Stack
from ops.trace_view import read_trace
from tests.app.test_away import NOWHERE, settings_of
from tests.support.client import text_of
from tests.support.serving import producing, serving
from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("backend", ["pubsub", "streams"])
async def test_a_chunk_store_that_dies_in_mid_stream_costs_no_chunk(
    system: Stack, backend: str, tmp_path: Path
) -> None:
    """The producer hands the stream with its whole log to `polling`; its viewer follows, without hole or repeat.

    The trace tells of it, in the producer's span and in the viewer's.
    """
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url, trace_folder=str(tmp_path))
        async with producing(settings) as services, serving(settings) as client:
            conversation = await services.records.add_conversation(None)
            posted = await services.records.post(
                conversation.id, "hello", "scripted?ttft=0.05&gap=0.02&chunks=150", None, backend, 60
            )
            assert posted is not None
            await services.backends.writers[backend].create(posted.task_id)
            working = asyncio.create_task(generate(services, posted.task_id, time_ns()))
            events = []
            async for event in client.follow(str(posted.task_id)):
                events.append(event)
                if len(events) == 3:
                    store.kill()
            await working
            pin = await services.records.pin(posted.task_id)
            late = await client.whole(str(posted.task_id))
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert events[-1].record["chunk_type"] == "done"
    assert pin is not None
    assert (pin.backend, pin.state, pin.message.status) == ("polling", "done", "complete")
    assert text_of(events) == text_of(late) == pin.message.content
    task, *viewers = read_trace(tmp_path, posted.task_id)
    call = task.parts[0].parts[0]
    for span in (call, viewers[0]):
        assert "hand_over" in [name for _, name in span.events], span.name


def forget_the_last(store: RunningValkey, task_id: UUID, backend: str, number: int) -> None:
    """Leave what a replica has that lagged so many chunks behind when it took over."""
    log = keys.log_key(task_id)
    with store.client() as client, client.pipeline() as together:
        if backend == "pubsub":
            together.ltrim(keys.chunks_key(task_id), 0, -number - 1)
        else:
            kept: Any = client.xrange(log)
            together.delete(log)
            for place, fields in kept[:-number]:
                together.xadd(log, fields, id=place)
            together.expire(log, 60)
        together.execute()


@pytest.mark.parametrize("backend", ["pubsub", "streams"])
async def test_a_store_that_has_forgotten_the_last_chunks_costs_no_chunk(system: Stack, backend: str) -> None:
    """The producer finds the gap at its next append and hands over what it holds; viewers follow from where they were.

    Those of `pubsub` hear of it there and then, those of `streams` after a silence, when the answer may be complete.
    """
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url, keep_alive_s=60)
        async with producing(settings) as services, serving(settings) as client:
            conversation = await services.records.add_conversation(None)
            model = "scripted?ttft=0.05&gap=0.02&chunks=60"
            posted = await services.records.post(conversation.id, "hello", model, None, backend, 60)
            assert posted is not None
            await services.backends.writers[backend].create(posted.task_id)
            working = asyncio.create_task(generate(services, posted.task_id, time_ns()))
            events = []
            async with asyncio.timeout(30):
                async for event in client.follow(str(posted.task_id)):
                    events.append(event)
                    if len(events) == 10:
                        forget_the_last(store, posted.task_id, backend, 5)
            await working
            pin = await services.records.pin(posted.task_id)
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert pin is not None
    assert (pin.backend, pin.message.status) == ("polling", "complete")
    assert text_of(events) == pin.message.content


async def test_a_store_that_only_the_producer_has_lost_costs_no_viewer_the_answer(system: Stack) -> None:
    """The API reaches it, where the stream stands open for ever: at a keep-alive it looks where the stream is now."""
    with running_valkey() as store:
        seen = settings_of(system, redis_url=store.url, silence_s=0.2, keep_alive_s=0.3)
        async with producing(settings_of(system, redis_url=NOWHERE)) as services, serving(seen) as client:
            conversation = await services.records.add_conversation(None)
            model = "scripted?ttft=0.05&gap=0.02&chunks=20"
            posted = await services.records.post(conversation.id, "hello", model, None, "pubsub", 60)
            assert posted is not None
            async with producing(seen) as there:
                await there.backends.writers["pubsub"].create(posted.task_id)
            watching = asyncio.create_task(client.whole(str(posted.task_id)))

            async def is_watched() -> bool:
                with store.client() as redis:
                    return bool(redis.pubsub_channels(f"*{posted.task_id}*"))

            await until_awaited(is_watched, "the viewer waits there")
            await generate(services, posted.task_id, time_ns())
            async with asyncio.timeout(60):
                events = await watching
            pin = await services.records.pin(posted.task_id)
    assert pin is not None
    assert (pin.backend, events[-1].record["chunk_type"]) == ("polling", "done")
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert text_of(events) == pin.message.content != ""


async def test_a_viewer_of_a_log_that_had_to_begin_anew_is_told(system: Stack) -> None:
    """With the store and the first attempt lost, the next one can't go on where it ended: viewers discard and follow.

    Its indexes are beyond all that anybody can have seen, so an old last event id still resumes at the right place.
    """
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url)
        async with producing(settings) as services, serving(settings) as client:
            conversation = await services.records.add_conversation(None)
            held = f"fault=stall&at=20&tries=1&seed={time_ns() % 10**9}"  # the first attempt, in mid-answer
            model = f"scripted?ttft=0.05&gap=0.02&chunks=60&{held}"
            posted = await services.records.post(conversation.id, "hello", model, None, "pubsub", 60)
            assert posted is not None
            await services.backends.writers["pubsub"].create(posted.task_id)
            attempts = [asyncio.create_task(generate(services, posted.task_id, time_ns()))]
            kinds, text, seen = list[str](), "", "0"
            async for event in client.follow(str(posted.task_id)):
                record = event.record
                kinds.append(record["chunk_type"])
                text = "" if record["chunk_type"] == "reset" else text + record["content"]
                if len(text.split()) == 20 and len(attempts) == 1:
                    seen = str(event.id)
                    attempts[0].cancel()
                    store.kill()
                    attempts.append(asyncio.create_task(generate(services, posted.task_id, time_ns())))
            await attempts[1]
            pin = await services.records.pin(posted.task_id)
            returned = await client.whole(str(posted.task_id), **{"Last-Event-ID": seen})
            late = await client.whole(str(posted.task_id))
            last = str(late[-1].id)
            over = await client.http.get(f"/stream/{posted.task_id}", headers={"Last-Event-ID": last})
    assert pin is not None
    assert (kinds.count("reset"), kinds[-1], pin.backend) == (1, "done", "polling")
    assert text == pin.message.content == text_of(returned) == text_of(late)
    assert returned[0].record["chunk_type"] == "reset"
    assert over.status_code == 204
