"""What the tests do with streams: have one at a worker of their choice, and watch it as a browser does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx2

from tests.hosts.system import System
from tests.support.client import Client, Event, Posted
from tests.support.waiting import until_awaited

AGAIN_S = 0.1
PATIENCE_S = 15.0
"""For a server that was out of reach to be found again; what it takes is a connect that is under way, and a pause."""
AGAIN_IN_S = 40.0
"""For a lost host's stream to go on elsewhere: seconds for lease, grace and redelivery, some more on a busy machine."""


@contextlib.asynccontextmanager
async def reaching(hosts: System, silence_s: float) -> AsyncIterator[dict[str, Client]]:
    """Give a client of each API, by its host's name; it takes a connection for dead that is silent for so long."""
    timeout = httpx2.Timeout(10, read=silence_s)
    async with contextlib.AsyncExitStack() as opened:
        connections = {
            name: httpx2.AsyncClient(base_url=hosts.api(name), timeout=timeout, trust_env=False) for name in hosts.apis
        }
        yield {name: Client(await opened.enter_async_context(http)) for name, http in connections.items()}


async def posted_to(hosts: System, client: Client, worker: str, script: str, backend: str = "pubsub") -> Posted:
    """Post until the worker on that host has taken one; gives that one."""
    while True:
        before = {name: await hosts.metric(client.http, name, "streams_started_total") for name in hosts.workers}
        posted = await insist(client, script, backend)
        taken = list[str]()

        async def is_taken(before: dict[str, float] = before, taken: list[str] = taken) -> bool:
            for name, count in before.items():
                if await hosts.metric(client.http, name, "streams_started_total") > count:
                    taken.append(name)
            return bool(taken)

        await until_awaited(is_taken, "a worker takes the message")
        if taken == [worker]:
            return posted


async def insist(client: Client, script: str, backend: str = "pubsub") -> Posted:
    """Post until it is accepted, as a front end does that is told to come back."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(AssertionError, httpx2.HTTPError):
                return await client.post(script, backend=backend)
            await asyncio.sleep(AGAIN_S)


async def watch(clients: Sequence[Client], task_id: str, seen: list[Event] | None = None) -> list[Event]:
    """Follow a stream to its terminal, coming back with the last id, to the next API, whenever a connection ends."""
    seen = [] if seen is None else seen
    turn = 0
    while not (seen and seen[-1].is_terminal):
        headers = {"Last-Event-ID": seen[-1].id} if seen and seen[-1].id else {}
        try:
            async for event in clients[turn % len(clients)].follow(task_id, **headers):
                seen.append(event)
        except httpx2.HTTPError:
            await asyncio.sleep(AGAIN_S)
        turn += 1
    return seen


async def until_said(seen: list[Event], deltas: int) -> None:
    """Wait until a viewer has seen so much more of what the model said; a busy worker joins some of it in one chunk."""

    def said() -> int:
        return sum(event.record["deltas"] for event in seen if event.record["chunk_type"] == "content")

    wanted = said() + deltas

    async def has_it() -> bool:
        has_ended = bool(seen) and seen[-1].is_terminal
        assert said() >= wanted or not has_ended, f"it has ended: {seen[-1].record}"
        return said() >= wanted

    await until_awaited(has_it, f"{deltas} more deltas come", AGAIN_IN_S)


def is_whole(events: Sequence[Event], deltas: int) -> bool:
    """Whether a viewer got every chunk once and in order, to the `done`, with all that the model said."""
    in_order = [event.record["chunk_index"] for event in events] == list(range(len(events)))
    last_attempt = [event.record for event in events if event.record["attempt"] == events[-1].record["attempt"]]
    said = sum(record["deltas"] for record in last_attempt if record["chunk_type"] == "content")
    return in_order and last_attempt[-1]["chunk_type"] == "done" and said == deltas
