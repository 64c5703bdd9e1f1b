"""A target that is gone is noticed, and one that is slow, or broken, or back in time is not taken for it."""

import asyncio
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from loadtest.generator import Progress
from loadtest.plan import Plan
from loadtest.progress import Display
from loadtest.reach import LOOK_S, PATIENCE_S, Reach, UnreachableError, is_there
from tests.support.faulty_http import answering

URL = "http://127.0.0.1:1"


class World:
    """A clock, and a target that is there or not; it notes when it was asked."""

    def __init__(self) -> None:
        self.now_s, self.is_up = 100.0, True
        self.asked_s: list[float] = []
        self.reach = Reach(URL, self.answers, lambda: self.now_s)

    def answers(self, target: str) -> bool:
        assert target == URL
        self.asked_s.append(self.now_s)
        return self.is_up

    def go_on(self, seconds: float, chunks: Iterator[int] | None = None) -> None:
        """A report each quarter of a second, of as many chunks as that; without, of none."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.25
            self.reach.heard(Progress("progress", chunks=next(chunks) if chunks else 0))

    def wait(self, seconds: float) -> None:
        """No report in all that time."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += LOOK_S
            self.reach.heard(None)


@pytest.fixture
def world() -> World:
    return World()


def test_while_chunks_come_nobody_asks(world: World) -> None:
    """A question costs the target time that is being measured."""
    world.is_up = False
    world.go_on(60, iter(range(1, 1000)))
    assert world.asked_s == []
    assert world.reach.away_s is None


def test_a_target_that_stays_away_ends_the_run(world: World) -> None:
    """After ten seconds of tries in vain, with the second of the load in which they began."""
    world.go_on(30, iter(range(1, 1000)))
    world.is_up = False
    with pytest.raises(UnreachableError, match=r"^the target could not be reached any more since second 31$"):
        world.go_on(60)
    assert world.now_s == 100 + 30 + LOOK_S + PATIENCE_S
    assert len(world.asked_s) == PATIENCE_S / LOOK_S + 1


def test_a_target_that_comes_back_in_time_goes_on(world: World) -> None:
    """Also when it is away again later: each time it has the whole patience. A chunk says it as well as an answer."""
    for chunks in (None, iter(range(1, 1000))):
        world.is_up = False
        world.go_on(PATIENCE_S - 1)
        assert world.reach.away_s == pytest.approx(PATIENCE_S - 1 - LOOK_S, abs=LOOK_S)
        world.is_up = chunks is None
        world.go_on(2 * LOOK_S, chunks)
        assert world.reach.away_s is None


def test_it_is_said_as_it_happens() -> None:
    """Once when a target is away, and once when it is back."""
    output = io.StringIO()
    display = Display(Console(file=output, width=1000), Plan(1, 1.0, ()), Path("none"))
    for away_s in (None, 0.5, 1.5, None, None):
        display.away(away_s)
    assert output.getvalue().splitlines() == [
        "the target can't be reached: the run ends if that stays so for 10 s",
        "the target can be reached again",
    ]


def test_silence_of_the_generator_counts_as_well(world: World) -> None:
    """Nothing is reported while conversations are made, which takes for ever where packets vanish."""
    world.is_up = False
    with pytest.raises(UnreachableError):
        world.wait(60)


@pytest.mark.parametrize(("status", "there"), [(200, True), (404, True), (500, True), (503, True), (502, False)])
async def test_whatever_answers_is_there_but_for_a_proxy_with_nobody_behind(status: int, there: bool) -> None:
    """A target that is not ready, or knows no such path, is reached."""
    async with answering(lambda _path: (status, {})) as url:
        assert await asyncio.to_thread(is_there, url) is there


def test_nobody_and_a_server_that_is_silent_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection alone is no answer: the kernel takes it for a process that hangs."""
    monkeypatch.setattr("loadtest.reach.TRY_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        assert not is_there(url)
    assert not is_there(url)
