"""How a rollout stands is told to the database for people to see; it goes on the same whether or not it could be."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from app.database import Database
from app.rollout_record import GRACE_S, RolloutHeard, RolloutRecord
from ops.rollout.controller import Controller
from ops.rollout.display import STOPPED, Display
from ops.rollout.state import Phase
from tests.ops.rollout_parts import Did, World
from tests.support.waiting import until

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
T = TypeVar("T")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "rollout")


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """A database that nobody has told of a rollout, and that forgets what it is told."""
    execute(database_url, "DELETE FROM rollout")
    yield database_url
    execute(database_url, "DELETE FROM rollout")


def execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def asked(url: str, ask: Callable[[RolloutRecord], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Database.connect(url, 1) as database:
            return await ask(RolloutRecord(database))

    return asyncio.run(run())


def heard(url: str) -> RolloutHeard | None:
    return asked(url, RolloutRecord.heard)


def told(url: str) -> RolloutHeard:
    word = heard(url)
    assert word is not None
    return word


def rolled_out(world: World, display: Display) -> Phase:
    """Run one to its end that is shown there."""
    state = world.state()
    world.journal.begin(state)
    return Controller(state, replace(world.around(), show=display.show)).run()


def test_the_last_word_is_the_end_with_its_last_judgement(world: World, url: str) -> None:
    """Where nobody rolled out there is none. Figures are in words, in the unit of their objective."""
    assert heard(url) is None
    world.candidate = lambda percent: Did(latency_s=0.3) if percent == 50 else Did()
    with Display(url, world.said.append) as display:
        assert rolled_out(world, display) is Phase.ROLLED_BACK
    word = told(url)
    assert (word.candidate, word.baseline, word.phase) == ("pubsub", "polling", "rolled back")
    assert (word.steps, word.step, word.due_s, word.is_overdue) == ([1, 10, 50, 100], 3, None, False)
    assert word.why.startswith("Rolled back to polling: failed 2 times at 50 %")
    assert word.judgement is not None
    assert (word.judgement.verdict, word.judgement.percent) == ("fail", 50)
    latency = word.judgement.objectives[0]
    assert (latency.name, latency.verdict) == ("delivery_latency.p99", "fail")
    assert (latency.candidate, latency.baseline) == ("408 ms", "6.38 ms")


def test_a_word_is_overdue_once_its_controller_has_been_silent_for_long(world: World, url: str) -> None:
    """A judgement that is a little late is no reason to worry; one that was stopped by hand owes nothing."""
    state = world.state()
    state.phase, state.began_s = Phase.WATCHING, time.time() - 10
    with Display(url, world.said.append) as display:
        display.show(state, None)
        until(lambda: heard(url), "it is told")
        on_time = told(url)
        execute(url, f"UPDATE rollout SET updated_at = updated_at - interval '{state.interval_s + GRACE_S / 2} s'")
        late = told(url)
        execute(url, f"UPDATE rollout SET updated_at = updated_at - interval '{GRACE_S} s'")
        overdue = told(url)
        display.stop()
    assert [word.is_overdue for word in (on_time, late, overdue)] == [False, False, True]
    assert on_time.due_s == pytest.approx(state.interval_s, abs=10)
    assert overdue.silent_s > state.interval_s + GRACE_S
    stopped = told(url)
    assert (stopped.phase, stopped.why, stopped.due_s, stopped.is_overdue) == ("stopped", STOPPED, None, False)


def test_a_rollout_that_another_one_overtook_has_no_say(world: World, url: str) -> None:
    """Its end may be told after the other's beginning; the flag's generation says which is the newer."""
    older = world.state()
    older.phase = Phase.TAKEN
    newer = world.state()
    newer.candidate, newer.generation = "notify", older.generation + 1
    for state in (newer, older):
        with Display(url, world.said.append) as display:
            display.show(state, None)
    assert told(url).candidate == "notify"


def test_a_controller_that_carries_on_shows_what_the_guard_said_last(world: World) -> None:
    """And not nothing until the next interval is over."""
    state = world.state()
    world.run(state)
    before = world.shown[-1]
    Controller(state, world.around()).run()
    assert world.shown[-1].judgement == before.judgement is not None


def test_a_word_of_another_version_is_none(url: str) -> None:
    """Better no rollout than a page without its flag."""
    execute(url, "INSERT INTO rollout VALUES (1, 1, '{}', now())")
    assert heard(url) is None


def test_a_database_that_is_away_changes_nothing(world: World) -> None:
    """It refuses: the rollout takes the same steps, and says once that the page is not told."""
    with Display(NOWHERE, world.said.append) as display:
        assert rolled_out(world, display) is Phase.DONE
    assert world.moves == [1, 10, 50, 100]
    assert len([line for line in world.said if line.startswith("the page is not told")]) == 1


def test_a_database_that_is_silent_is_not_waited_for(world: World) -> None:
    """It takes connections and says nothing: that costs the rollout no time, and its end some seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/y"
        with Display(url, world.said.append, patience_s=1.5) as display:
            assert rolled_out(world, display) is Phase.DONE
            assert time.monotonic() - began < 1.5, "it does not wait"
        assert time.monotonic() - began < 10, "and gives up"


def test_what_could_not_be_told_is_told_once_it_can(world: World, url: str) -> None:
    """As before `streamgauge migrate`: the newest word alone."""
    execute(url, "ALTER TABLE rollout RENAME TO away")
    with Display(url, world.said.append) as display:
        try:
            display.show(world.state(), None)
            until(lambda: world.said, "it says that it can't")
            newest = world.state(steps=(5, 50))
            display.show(newest, None)
        finally:
            execute(url, "ALTER TABLE away RENAME TO rollout")
        until(lambda: heard(url), "it is told")
    word = told(url)
    assert (word.steps, word.silent_s > 1) == ([5, 50], True), "as old as it is"
    assert 'relation "rollout" does not exist' in world.said[0]
