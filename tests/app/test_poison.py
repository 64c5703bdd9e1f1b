"""A character that no database can hold comes from a model, and costs neither its own stream nor another."""

import asyncio
import contextlib
import json
from time import time_ns

import pytest

from app.generation import generate
from app.streaming.backends import NAMES
from app.streaming.contract import decode, text_of
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.raw_http import playing, read_request
from tests.support.serving import producing

pytestmark = pytest.mark.anyio
WORDS = 20


def said(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"delta": {"content": text}, "finish_reason": finish_reason}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say some words; to who asks the poisoned model, each with a NUL, and the reason of the end with one too."""
    word, reason = ("a\x00 ", "st\x00p") if b'"poisoned"' in await read_request(reader) else ("ab ", "stop")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    for _ in range(WORDS):
        writer.write(said(word))
        await writer.drain()
        await asyncio.sleep(0.005)  # the pace of a model
    writer.write(said("", reason))


@pytest.mark.parametrize("backend", NAMES)
async def test_a_nul_of_the_model_harms_nobody(system: Stack, backend: str) -> None:
    """It becomes U+FFFD where it comes in: both streams, which share their statements, are whole and committed."""
    async with playing(answer) as url, contextlib.AsyncExitStack() as stack:
        settings = settings_of(system).model_copy(update={"openai_base_url": f"{url}/v1"})
        services = await stack.enter_async_context(producing(settings))
        conversation = await services.records.add_conversation(None)
        posts = [
            await services.records.post(conversation.id, "hello", model, None, backend, 60)
            for model in ("poisoned", "well")
        ]
        task_ids = [posted.task_id for posted in posts if posted is not None]
        for task_id in task_ids:
            await services.backends.writers[backend].create(task_id)
        async with asyncio.timeout(10):
            await asyncio.gather(*(generate(services, task_id, time_ns()) for task_id in task_ids))
        expected = ("a\ufffd ", "st\ufffdp"), ("ab ", "stop")
        for task_id, (word, reason) in zip(task_ids, expected, strict=True):
            pin = await services.records.pin(task_id)
            log = [decode(entry.record) for entry in await services.backends.readers[backend].get_chunks(task_id)]
            assert pin is not None
            message = pin.message
            assert (message.status, message.content, message.finish_reason) == ("complete", word * WORDS, reason)
            assert text_of(log) == message.content
