"""A crowd: many streams on every backend, each posted, watched to its end and held against its committed message."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from ops.chaos.viewer import READ_S, Sight, Viewer

POST_S = 60.0
"""How long a front end tries to post a message before it gives up."""
COMMIT_S = 15.0
"""How long after a terminal that nobody committed (`producer_lost`) the message may take to say so."""
RETRY_S = 0.5
LOOK_S = 0.05
FORCE = "X-Streamgauge-Backend"
_numbers = itertools.count(1)


@dataclass
class Told:
    """One stream: where it was asked for, what its viewer saw, and what its message says in the end."""

    backend: str
    task_id: str
    sight: Sight
    was_live: bool = False
    """Whether it was running when the fault struck."""
    message: Mapping[str, Any] = field(default_factory=dict)

    @property
    def complaints(self) -> list[str]:
        """What was lost of it; empty for a whole stream."""
        found = list(self.sight.holes)
        if self.sight.ending is None:
            found.append(f"no terminal came; {self.sight.chunks} chunks did")
        elif (text := "".join(self.sight.text)) != self.message.get("content"):
            found.append(f"its text ({len(text)} characters) is not its message's: {self.message.get('status')}")
        return found

    @property
    def was_moved(self) -> bool:
        """Whether it was cut off, begun anew, or handed over."""
        return bool(self.sight.returns or self.sight.resets or self.message.get("backend") not in (None, self.backend))

    @property
    def felt_it(self) -> bool:
        """Whether the fault reached its viewer: it was moved, or kept waiting for a second."""
        return self.was_moved or self.sight.silence_s > 1


class Crowd:
    """Posts messages as front ends do, trying again when refused, and views every answer."""

    def __init__(self, http: httpx2.AsyncClient, urls: Sequence[str], default_backend: str, limit_s: float) -> None:
        self._http, self._urls, self._default, self._limit_s = http, urls, default_backend, limit_s
        self._watching = set[asyncio.Task[None]]()
        self.streams: list[Told] = []
        self.refused = Counter[str]()
        """Answers 503 to a POST, by backend."""
        self.unsent = Counter[str]()
        """Messages that could not be posted at all, by backend."""

    @classmethod
    @contextlib.asynccontextmanager
    async def gather(cls, urls: Sequence[str], default_backend: str, limit_s: float) -> AsyncIterator["Crowd"]:
        """Own the connections; a stream that has not ended `limit_s` after its POST counts as lost."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=50)
        timeout = httpx2.Timeout(10, read=READ_S)
        async with httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as http:
            crowd = cls(http, urls, default_backend, limit_s)
            try:
                yield crowd
            finally:
                for task in crowd._watching:
                    task.cancel()
                await asyncio.gather(*crowd._watching, return_exceptions=True)

    async def join(self, backend: str, script: str, leave_s: float | None = None) -> None:
        """Post one message and begin to view its answer. `script` is how the model answers it."""
        posted = await self._post(backend, f"{script}&seed={next(_numbers)}")
        if posted is None:
            self.unsent[backend] += 1
            return
        conversation, task_id = posted
        viewer = Viewer(self._http, self._urls, task_id, leave_s=leave_s)
        told = Told(backend, task_id, viewer.sight)
        self.streams.append(told)
        task = asyncio.create_task(self._watch(viewer, told, conversation, task_id))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    async def fill(self, backends: Sequence[str], count: int, script: str, leave_s: float | None) -> None:
        """Post `count` messages to each backend at once."""
        async with asyncio.TaskGroup() as group:
            for backend in backends:
                for _ in range(count):
                    group.create_task(self.join(backend, script, leave_s))

    async def fill_up(
        self, backends: Sequence[str], count: int, script: str, leave_s: float | None, within_s: float
    ) -> None:
        """Post until `count` streams run on each backend at once, however many have ended by then.

        Raises `TimeoutError` when that is not so within this time.
        """
        async with asyncio.timeout(within_s):
            while any(self._count(backend, begun=True) < count for backend in backends):
                async with asyncio.TaskGroup() as group:
                    for backend in backends:
                        for _ in range(count - self._count(backend, begun=False)):
                            group.create_task(self.join(backend, script, leave_s))
                await asyncio.sleep(LOOK_S)

    def _count(self, backend: str, *, begun: bool) -> int:
        """Count the streams of a backend that have not ended; of those only the ones that have `begun`, if asked."""
        running = [told.sight for told in self.streams if told.backend == backend and told.sight.ending is None]
        return sum(not begun or sight.chunks > 0 for sight in running)

    async def trickle(self, backends: Sequence[str], script: str, gap_s: float, over: asyncio.Event) -> None:
        """Go on posting to each backend every `gap_s` until it is over, however long one POST takes."""
        async with asyncio.TaskGroup() as group:
            while not over.is_set():
                for backend in backends:
                    group.create_task(self.join(backend, script))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), gap_s)

    def live(self) -> int:
        """Mark the streams that run now; gives their number."""
        for told in self.streams:
            told.was_live = told.sight.chunks > 0 and told.sight.ending is None
        return sum(told.was_live for told in self.streams)

    @property
    def waiting(self) -> int:
        """How many streams have not ended."""
        return len(self._watching)

    async def disperse(self) -> list[Told]:
        """Wait until every stream has ended or is given up; gives all of them."""
        while self._watching:
            await asyncio.wait(self._watching)
        return self.streams

    async def _post(self, backend: str, script: str) -> tuple[str, str] | None:
        """Post until it is accepted. A message for the default backend leaves the choice to the flag."""
        headers = {} if backend == self._default else {FORCE: backend}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POST_S):
                conversation = await self._insist(backend, "/conversations", {}, {})
                path = f"/conversations/{conversation['id']}/messages"
                body = {"content": "How high is the river?", "model": f"scripted?{script}"}
                accepted = await self._insist(backend, path, body, headers)
                return str(conversation["id"]), str(accepted["task_id"])
        return None

    async def _insist(
        self, backend: str, path: str, body: Mapping[str, str], headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                response = await self._http.post(f"{self._any_api()}{path}", json=body, headers=headers)
                if response.status_code < 300:
                    return dict(response.json())
                self.refused[backend] += 1
            await asyncio.sleep(RETRY_S)

    def _any_api(self) -> str:
        return random.choice(self._urls)  # noqa: S311 - spreads requests, guards nothing

    async def _watch(self, viewer: Viewer, told: Told, conversation: str, task_id: str) -> None:
        try:
            async with asyncio.timeout(self._limit_s):
                await viewer.watch()
        except TimeoutError:
            told.sight.end_silence()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMMIT_S):
                told.message = await self._committed(conversation, task_id)

    async def _committed(self, conversation: str, task_id: str) -> Mapping[str, Any]:
        """Read the message until it is no longer pending."""
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                response = await self._http.get(f"{self._any_api()}/conversations/{conversation}")
                if response.status_code == 200:
                    message = next(m for m in response.json()["messages"] if m["task_id"] == task_id)
                    if message["status"] != "pending":
                        return dict(message)
            await asyncio.sleep(RETRY_S)
