"""Any schedule of appends, joins, drops, reconnects, take-overs and broken connections: no hole, no repeat, one end."""

import asyncio
import contextlib
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.streaming.contract import Chunk, Entry, Outcome
from tests.contract.backends import Streams
from tests.contract.moves import (
    PATIENCE_S,
    content,
    ending,
    following,
    indexes,
    insist,
    opened,
    reset,
    take_over,
    text_of,
)

pytestmark = pytest.mark.anyio
few_but_any = settings(
    max_examples=25,
    deadline=None,
    # No shrinking: timing is part of a schedule here, so that would take minutes and end anywhere.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 8)),
    st.tuples(st.just("append again"), st.integers(0, 3)),
    st.tuples(st.just("join"), st.integers(0, 40)),
    st.tuples(st.just("join"), st.integers(0, 40)),
    st.tuples(st.just("drop"), st.integers(0, 9)),
    st.tuples(st.just("come back"), st.integers(0, 9)),
    st.tuples(st.just("let others run"), st.integers(1, 20)),
    st.tuples(st.just("take over"), st.just(0)),
)
breaks = st.tuples(st.just("break connections"), st.just(0))


@dataclass
class Viewer:
    """A client with a place of its own, which it keeps while it is away."""

    streams: Streams
    task_id: UUID
    start: int
    seen: list[Entry] = field(default_factory=list)
    _watching: asyncio.Task[None] | None = None

    def come(self) -> None:
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    async def drop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None

    async def stay_to_the_end(self) -> None:
        self.come()
        assert self._watching is not None
        async with asyncio.timeout(PATIENCE_S):
            await self._watching

    async def _watch(self) -> None:
        async with contextlib.aclosing(following(self.streams, self.task_id, self.start + len(self.seen))) as batches:
            async for entries in batches:
                self.seen.extend(entries)


@dataclass
class Play:
    """One stream, its producer's log, and its viewers."""

    streams: Streams
    task_id: UUID
    attempt: int = 1
    log: list[Chunk] = field(default_factory=list)
    viewers: list[Viewer] = field(default_factory=list)

    async def step(self, name: str, number: int) -> None:
        if name in {"join", "drop", "come back", "let others run"}:
            await self.step_of_a_viewer(name, number)
        else:
            await self.step_of_a_producer(name, number)

    async def step_of_a_producer(self, name: str, number: int) -> None:
        match name:
            case "append":
                for _ in range(number):
                    await self.append(content(len(self.log), f"{len(self.log)} ", self.attempt))
            case "append again" if number < len(self.log) and self.log[number].attempt == self.attempt:
                answer = await insist(self.streams, self.task_id, self.log[number])
                assert answer.outcome is Outcome.DUPLICATE
            case "take over":
                opening = await take_over(self.streams, self.task_id)
                assert (opening.attempt > self.attempt, opening.next_index) == (True, len(self.log))
                self.attempt = opening.attempt
                await self.append(reset(len(self.log), self.attempt))
            case "break connections":
                await self.streams.sever()

    async def step_of_a_viewer(self, name: str, number: int) -> None:
        match name:
            case "join":
                self.viewers.append(Viewer(self.streams, self.task_id, number % (len(self.log) + 1)))
                self.viewers[-1].come()
            case "drop" if self.viewers:
                await self.viewers[number % len(self.viewers)].drop()
            case "come back" if self.viewers:
                self.viewers[number % len(self.viewers)].come()
            case "let others run":
                for _ in range(number):
                    await asyncio.sleep(0)

    async def append(self, chunk: Chunk) -> None:
        answer = await insist(self.streams, self.task_id, chunk)
        assert answer.outcome in {Outcome.OK, Outcome.DUPLICATE}, answer
        self.log.append(chunk)

    async def run(self, schedule: list[tuple[str, int]]) -> None:
        """Play it, let every viewer stay to the end, and compare what they saw."""
        for name, number in schedule:
            await self.step(name, number)
        await self.append(ending(len(self.log), attempt=self.attempt))
        for viewer in [*self.viewers, Viewer(self.streams, self.task_id, 0)]:
            await viewer.stay_to_the_end()
            assert indexes(viewer.seen) == list(range(viewer.start, len(self.log)))
        stored = await self.streams.reader.get_chunks(self.task_id)
        for viewer in self.viewers:
            assert [entry.record for entry in viewer.seen] == [entry.record for entry in stored[viewer.start :]]
        newest = [chunk.content for chunk in self.log if chunk.attempt == self.attempt]
        assert text_of(stored) == "".join(newest)


@few_but_any
@given(schedule=st.lists(steps, max_size=30))
async def test_any_schedule_leaves_no_hole_and_no_repeat(streams: Streams, schedule: list[tuple[str, int]]) -> None:
    """Each viewer sees from its start to the terminal exactly what is stored, whatever happened in between."""
    await Play(streams, await opened(streams)).run(schedule)


@settings(few_but_any, max_examples=8)
@given(before=st.lists(steps, min_size=3, max_size=8), after=st.lists(st.one_of(steps, breaks), max_size=8))
async def test_nor_does_a_schedule_in_which_connections_break(
    streams: Streams, before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    """The store is well and the way to it is not: replies are lost, subscriptions are lost, chunks are not."""
    await Play(streams, await opened(streams)).run([*before, ("break connections", 0), *after])
