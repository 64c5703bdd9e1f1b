"""A front end for tests: it speaks HTTP and Server-Sent Events, and knows nothing of the app's code."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Event:
    """One SSE event as a browser's `onmessage` would see it."""

    id: str | None
    record: dict[str, Any]

    @property
    def is_terminal(self) -> bool:
        return self.record["chunk_type"] in {"done", "failed", "cancelled"}


@dataclass(frozen=True)
class Posted:
    """What a POST of a message answered, and where."""

    conversation_id: str
    task_id: str
    message_id: str


@dataclass(frozen=True)
class Client:
    """The system as a front end uses it."""

    http: httpx2.AsyncClient

    async def conversation(self) -> str:
        response = await self.http.post("/conversations", json={"title": "test"})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def post(
        self, script: str = "ttft=0.02&gap=0.01&chunks=10", backend: str | None = None, conversation: str | None = None
    ) -> Posted:
        """Ask a question that the scripted model answers as `script` says."""
        conversation = conversation or await self.conversation()
        headers = {"X-Streamgauge-Backend": backend} if backend else {}
        body = {"content": "How high is the river?", "model": f"scripted?{script}"}
        response = await self.http.post(f"/conversations/{conversation}/messages", json=body, headers=headers)
        assert response.status_code == 202, response.text
        return Posted(conversation, **response.json())

    async def follow(self, task_id: str, **headers: str) -> AsyncGenerator[Event]:
        """Yield a stream's events as they arrive, until the server ends the response."""
        async with self.http.stream("GET", f"/stream/{task_id}", headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            event_id: str | None = None
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    event_id = line[4:]
                elif line.startswith("data: "):
                    yield Event(event_id, json.loads(line[6:]))
                    event_id = None

    async def whole(self, task_id: str, **headers: str) -> list[Event]:
        """Follow a stream to its end."""
        return [event async for event in self.follow(task_id, **headers)]

    async def answer(self, posted: Posted) -> dict[str, Any]:
        """The answer's message as it stands in its conversation."""
        response = await self.http.get(f"/conversations/{posted.conversation_id}")
        assert response.status_code == 200, response.text
        return next(m for m in response.json()["messages"] if m["id"] == posted.message_id)


def text_of(events: list[Event]) -> str:
    """What a client shows: a reset discards what came before."""
    text = ""
    for event in events:
        text = "" if event.record["chunk_type"] == "reset" else text + event.record["content"]
    return text
