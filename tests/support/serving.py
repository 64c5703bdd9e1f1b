"""Parts of the app inside the test's own process, over real servers, so that a test can take those away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import time_ns
from uuid import UUID

import httpx2

from app import generation
from app.leaving import Leaving
from app.llm import Model
from app.main import create_app, open_services
from app.serve import DrainingServer, listen
from app.settings import Settings
from app.streaming.contract import Opening
from tests.support.client import Client
from tests.support.waiting import until_awaited


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Client]:
    """Serve the API on a free loopback port for the length of the block."""
    with listen("127.0.0.1", 0, settings.write_timeout_s) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = DrainingServer(create_app(settings), settings)
        async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
            task = asyncio.create_task(server.serve([listener]))
            try:
                while not server.started:
                    assert not task.done(), "the server ended while it started"
                    await asyncio.sleep(0.01)  # between two looks
                yield Client(http)
            finally:
                server.should_exit = True
                await task


async def begin(services: generation.Services, task_id: UUID) -> Opening:
    """Claim the next attempt at a stream and open it, as a worker does before it asks the model."""
    job = await services.records.claim(task_id)
    assert job is not None
    return await services.backends.writers[job.backend].open(task_id, job.attempt)


async def answering(services: generation.Services) -> tuple[UUID, asyncio.Task[None]]:
    """Post a message and have it answered over a third of a second; gives it once the answer has begun."""
    conversation = await services.records.add_conversation(None)
    script = "scripted?ttft=0.05&gap=0.01&chunks=30"
    posted = await services.records.post(conversation.id, "hello", script, None, "pubsub", 60)
    assert posted is not None
    await services.backends.writers["pubsub"].create(posted.task_id)
    working = asyncio.create_task(generation.generate(services, posted.task_id, time_ns()))
    reader = services.backends.readers["pubsub"]
    await until_awaited(lambda: reader.get_chunks(posted.task_id), "the answer has begun")
    return posted.task_id, working


@contextlib.asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[generation.Services]:
    """What a worker holds open, so that a test can run a generation itself."""
    model = Model.connect(
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key,
        connect_s=settings.model_connect_s,
        stall_s=settings.model_stall_s,
        max_chars=settings.max_answer_chars,
    )
    async with open_services(settings) as services, model as connected:
        yield generation.Services(settings, services.records, services.backends, connected, Leaving())
