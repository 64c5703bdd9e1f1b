"""The reference's worker: `celery -A loadtest.bench.reference.worker worker --pool gevent`."""

import json
import os
import time

import openai
import redis
from celery import Celery
from httpx2 import Limits
from openai.types.chat import ChatCompletionUserMessageParam

URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
TTL_S = 3600

app = Celery("reference", broker=URL)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, redis_max_connections=10_000)
store = redis.Redis.from_url(URL)
# The SDK's own limit of 1,000 connections would hold the other streams up.
model = openai.OpenAI(api_key="none", http_client=openai.DefaultHttpxClient(limits=Limits(max_connections=None)))


@app.task(name="reference.answer")  # type: ignore[untyped-decorator]  # celery publishes no types
def answer(task_id: str, conversation: str, question: str, name: str) -> None:
    """Stream the model's answer into Valkey, then store the message, then say so."""
    parts: list[str] = []
    asked: ChatCompletionUserMessageParam = {"role": "user", "content": question}
    for chunk in model.chat.completions.create(model=name, messages=[asked], stream=True):
        if chunk.choices and (text := chunk.choices[0].delta.content):
            append(task_id, len(parts), "content", text)
            parts.append(text)
    store.rpush(f"conversation:{conversation}", json.dumps({"role": "assistant", "content": "".join(parts)}))
    append(task_id, len(parts), "done", "")


def append(task_id: str, index: int, kind: str, text: str) -> None:
    """Store a record, tell who listens, and let it expire."""
    record = {
        "chunk_index": index,
        "chunk_type": kind,
        "content": text,
        "attempt": 1,
        "deltas": 1,
        "ts_ns": time.time_ns(),
    }
    data = json.dumps(record, separators=(",", ":"))
    store.rpush(f"chunks:{task_id}", data)
    store.publish(f"stream:{task_id}", data)
    store.expire(f"chunks:{task_id}", TTL_S)
