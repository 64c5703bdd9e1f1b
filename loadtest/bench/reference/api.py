"""The reference's API: `uvicorn loadtest.bench.reference.api:app`."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import redis.asyncio
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from loadtest.bench.reference.worker import URL, answer, store

app = FastAPI()
listening = redis.asyncio.Redis.from_url(URL)


class Question(BaseModel):
    """What a person asks, and of which model."""

    content: str
    model: str


@app.get("/health")
async def health() -> dict[str, str]:
    """Answer while it lives."""
    return {"status": "ok"}


@app.post("/conversations", status_code=201)
async def create() -> dict[str, str]:
    """Begin a conversation."""
    return {"id": str(uuid4())}


@app.post("/conversations/{conversation}/messages", status_code=202)
def post(conversation: str, question: Question) -> dict[str, str]:
    """Store the question and queue its answer; both calls block, so FastAPI runs this in its thread pool."""
    task_id = str(uuid4())
    store.rpush(f"conversation:{conversation}", json.dumps({"role": "user", "content": question.content}))
    answer.delay(task_id, conversation, question.content, question.model)
    return {"task_id": task_id}


@app.get("/conversations/{conversation}")
def read(conversation: str) -> dict[str, Any]:
    """Give the messages so far."""
    messages = store.lrange(f"conversation:{conversation}", 0, -1)
    return {"id": conversation, "messages": [json.loads(message) for message in messages]}  # type: ignore[union-attr]  # the client is not asynchronous


@app.get("/stream/{task_id}")
async def stream(task_id: str) -> StreamingResponse:
    """Follow an answer from its beginning."""
    return StreamingResponse(events(task_id), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def events(task_id: str) -> AsyncIterator[bytes]:
    """Subscribe, read what there is once that stands, then go on with what is published."""
    due = 0
    async with listening.pubsub() as pubsub:
        await pubsub.subscribe(f"stream:{task_id}")
        async for message in pubsub.listen():
            is_new = message["type"] == "message"
            records = [message["data"]] if is_new else await listening.lrange(f"chunks:{task_id}", 0, -1)  # type: ignore[misc]
            for data in records:
                record = json.loads(data)
                if record["chunk_index"] < due:
                    continue
                due = record["chunk_index"] + 1
                yield b"id: %d\ndata: %b\n\n" % (record["chunk_index"], data)
                if record["chunk_type"] == "done":
                    return
