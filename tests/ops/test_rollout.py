"""A rollout on a real system under load: planted regressions are caught in time, and an innocent candidate stays.

The chunk store is behind a proxy, through which only `pubsub` goes; `polling` keeps to PostgreSQL.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx2
import msgspec
import pytest

from ops.app_commands import answers
from ops.prometheus_server import prometheus
from ops.rollout.figures import Scrape, figures_of, grown
from ops.rollout.guard import DEFAULT, read_guard
from ops.rollout.judge import Verdict
from ops.rollout.sources import Source, SourceError, found_in, metrics_of, prometheus_at
from ops.rollout.state import Journal, Judgement, Phase
from ops.stack import Stack, StackOptions, running_stack
from ops.supervisor import Supervisor
from tests.ops.rollout_parts import World
from tests.support.client import Client
from tests.support.command import streamgauge_here
from tests.support.prometheus import needs
from tests.support.store_proxy import StoreProxy, proxied
from tests.support.valkey import running_valkey
from tests.support.waiting import until

pytestmark = pytest.mark.long
CANDIDATE, BASELINE = "pubsub", "polling"
SCRIPT = "ttft=0.02&gap=0.06&chunks=10"
AT_ONCE = 6
"""Enough for the guard, and much of the processors is left for the tests beside it."""
INTERVAL_S = 2.0
TRIES = 20
STREAMS_A_TRY = 5
"""Of each backend: as many as the guard asks for."""
FOR_A_BUSY_MACHINE = {
    "minimum: {streams: 20, chunks: 200}": "minimum: {streams: 5, chunks: 20}",
    "cooldown: 10s": "cooldown: 1s",
    "slack: 50ms, limit: 1s": "slack: 100ms, limit: 10s",
    "slack: 250ms": "slack: 3s",
}
"""The guard that is built in, for few streams in two seconds, while other tests take the processors."""


@dataclass
class Load:
    """Readers who ask again and again, each in a conversation of their own, until they are told to stop."""

    url: str
    over: threading.Event = field(default_factory=threading.Event)
    answered: int = 0

    async def ask(self) -> None:
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=self.url, timeout=30, limits=limits) as http:
            await asyncio.gather(*(self._reader(Client(http)) for _ in range(AT_ONCE)))

    async def _reader(self, client: Client) -> None:
        while not self.over.is_set():
            posted = await client.post(SCRIPT)
            events = await client.whole(posted.task_id)
            assert events[-1].record["chunk_type"] == "done", "no viewer loses anything by a rollout"
            self.answered += 1


@dataclass
class Rig:
    """A system whose chunk store lies behind a bad wire, and where its rollouts are kept."""

    stack: Stack
    wire: StoreProxy
    folder: Path
    guard: Path

    @property
    def judgements(self) -> list[Judgement]:
        return Journal(self.folder / "rollout").judgements()

    def is_watching(self, steps: tuple[float, ...]) -> bool:
        state = Journal(self.folder / "rollout").read()
        return state is not None and state.steps == steps and state.phase is Phase.WATCHING

    def words(self, *arguments: str) -> list[str]:
        ours = ["--interval", f"{INTERVAL_S:g}s", "--guard", str(self.guard), "--folder", str(self.folder)]
        return ["rollout", *arguments, *ours]

    def rolled_out(self, *arguments: str) -> tuple[int, str]:
        """Run one to its end: exit code, and what it said."""
        done = streamgauge_here(*self.words(*arguments), folder=self.folder, **self.stack.environment())
        return done.returncode, done.stdout + done.stderr

    def elsewhere(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Run one in a process of its own, which can be killed."""
        command = [sys.executable, "-m", "ops.cli", *self.words(*arguments)]
        return subprocess.Popen(command, env=self.stack.environment(), stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("rollout")
    guard = folder / "guard.yaml"
    text = DEFAULT.read_text()
    for given, ours in FOR_A_BUSY_MACHINE.items():
        assert given in text
        text = text.replace(given, ours)
    guard.write_text(text)
    with running_valkey() as valkey, proxied(valkey.port) as wire:
        environment = {
            **os.environ,
            "REDIS_URL": wire.url,
            "BROKER_URL": valkey.url,
            "STREAMGAUGE_DEFAULT_BACKEND": BASELINE,
            "STREAMGAUGE_ALLOWED_MODELS": "scripted*",
        }
        with running_stack(StackOptions(folder, port=0, keep_data=False, environment=environment)) as stack:
            yield Rig(stack, wire, folder, guard)


@contextlib.contextmanager
def loaded(rig: Rig) -> Iterator[Load]:
    load = Load(rig.stack.api_url)
    with ThreadPoolExecutor(1, "load") as elsewhere:
        asking = elsewhere.submit(asyncio.run, load.ask())
        try:
            until(lambda: load.answered > AT_ONCE or asking.done(), "the load is under way", 30)
            yield load
        finally:
            load.over.set()
            asking.result(30)  # raises unless every stream has ended well


@pytest.fixture
def bad_wire(rig: Rig) -> Iterator[StoreProxy]:
    yield rig.wire
    rig.wire.delay_s, rig.wire.swallow_every = 0.0, 0


def replayed(scrapes: Iterable[Scrape]) -> Source:
    """A source that gives these, one after the other, and then nothing."""
    rest = iter(scrapes)

    def read() -> Scrape:
        for scrape in rest:
            return scrape
        raise SourceError("all scrapes are used up")

    return read


def judged(rig: Rig) -> list[Judgement]:
    """What was said of the intervals; one that holds for want of samples is joined with the next."""

    def is_joined(one: Judgement) -> bool:
        return one.verdict is Verdict.HOLD and any(check.few for check in one.checks)

    return [one for one in rig.judgements if not is_joined(one)]


def verdicts(rig: Rig) -> list[Verdict]:
    return [judgement.verdict for judgement in judged(rig)]


def broken(judgement: Judgement) -> set[str]:
    return {check.objective for check in judgement.checks if check.verdict is Verdict.FAIL}


def test_a_delay_in_the_candidates_path_is_caught_within_two_intervals(rig: Rig, bad_wire: StoreProxy) -> None:
    """300 ms from the store to the app: the first two judgements fail, and everything is back at the baseline."""
    bad_wire.delay_s = 0.3
    with loaded(rig):
        code, said = rig.rolled_out(CANDIDATE, "--steps", "50,100")
    assert code == 1, said
    assert verdicts(rig) == [Verdict.FAIL, Verdict.FAIL], said
    # Beside a baseline that a busy machine delays as well, it may be the first byte alone that is too late.
    assert broken(judged(rig)[-1]) & {"delivery_latency.p99", "ttfb.p95"}
    assert "Rolled back to polling" in said


def test_dropped_chunks_are_caught_within_two_intervals(rig: Rig, bad_wire: StoreProxy) -> None:
    """Every third message is swallowed: no viewer loses it, since the log is asked, and that is what is counted."""
    bad_wire.swallow_every = 3
    with loaded(rig):
        code, said = rig.rolled_out(CANDIDATE, "--steps", "50,100")
    assert code == 1, said
    assert verdicts(rig) == [Verdict.FAIL, Verdict.FAIL], said
    assert "repairs" in broken(judged(rig)[-1])


def test_an_innocent_candidate_gets_everything_though_its_controller_is_killed(rig: Rig) -> None:
    """To the last step, where the baseline has nothing left to show and its last figures stand for it.

    A SIGKILL in the midst of the first step leaves the flag where it is; the second controller goes on from there, and
    --status shows all of it.
    """
    journal, steps = Journal(rig.folder / "rollout"), (50.0, 100.0)
    with rig.elsewhere(CANDIDATE, "--steps", "50,100") as command:
        until(lambda: rig.is_watching(steps) or command.poll() is not None, "its first step", 30)
        command.kill()
    before = journal.read()
    assert before is not None
    assert (before.phase, before.percent) == (Phase.WATCHING, 50)
    with loaded(rig):
        code, said = rig.rolled_out("--resume")
    assert code == 0, said
    assert f"carrying on: {CANDIDATE} at 50 %" in said
    state = journal.read()
    assert state is not None
    assert (state.phase, state.percent, state.generation) == (Phase.DONE, 100, before.generation + 1)
    assert {judgement.percent for judgement in rig.judgements} == set(steps)
    assert "polling as it last was" in rig.judgements[-1].beside
    assert "done: pubsub has 100 %" in rig.rolled_out("--status")[1]


def test_a_prometheus_gives_the_same_figures(rig: Rig, tmp_path: Path) -> None:
    """A rollout by its samples; and once all is quiet, one query of it says what every process's own page says."""
    needs("prometheus")
    pages = {"streamgauge-api": rig.stack.api_urls, "streamgauge-worker": rig.stack.worker_metrics_urls}
    with Supervisor(tmp_path) as supervisor:
        process, url = prometheus(supervisor, pages, rig.stack.environment())
        supervisor.wait_ready(process, lambda: answers(f"{url}/-/ready"), 30)
        ours, theirs = metrics_of(found_in(rig.folder)), prometheus_at(url)
        with loaded(rig):
            until(lambda: can_see(theirs), "it has sampled a stream", 30)
            code, said = rig.rolled_out(CANDIDATE, "--steps", "50", "--prometheus", url)
        assert code == 0, said

        def agree() -> bool:
            counted, sampled = ours(), theirs()
            return all(figures_of(name, counted) == figures_of(name, sampled) for name in (CANDIDATE, BASELINE))

        until(agree, "it has sampled the last stream", 30)
    assert figures_of(CANDIDATE, ours()).latency("ttft").samples > 0


def can_see(source: Source) -> bool:
    with contextlib.suppress(SourceError):
        return bool(source())
    return False


async def answer(url: str) -> None:
    """Ask both backends as many questions, beside each other, and read every answer to its end."""

    async def reader(client: Client, *backends: str) -> None:
        for backend in backends:
            await client.whole((await client.post(SCRIPT, backend)).task_id)

    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        client, turns = Client(http), ((CANDIDATE, BASELINE), (BASELINE, CANDIDATE))
        await asyncio.gather(*(reader(client, *turns[number % 2]) for number in range(STREAMS_A_TRY)))


def test_an_innocent_candidate_is_not_rolled_back_in_twenty_tries(rig: Rig, tmp_path: Path) -> None:
    """Twenty controllers, each judging an interval of its own by what real processes counted, and allowed no failure.

    One that holds is not enough for the next step, and no reason to go back.
    """
    source = metrics_of(found_in(rig.folder))
    scrapes = [source()]

    def have_ended() -> bool:
        """Workers count a stream when its viewers have seen its end already."""
        growth = grown(scrapes[-1], newest := source())
        if any(figures_of(name, growth).streams < STREAMS_A_TRY for name in (CANDIDATE, BASELINE)):
            return False
        scrapes.append(newest)
        return True

    for _ in range(TRIES):
        asyncio.run(answer(rig.stack.api_url))
        until(have_ended, "every stream is counted")
    generous = tmp_path / "guard.yaml"  # where none is planted, a delay is the busy machine's own
    generous.write_text(rig.guard.read_text().replace("slack: 100ms", "slack: 300ms"))
    guard = msgspec.structs.replace(read_guard(generous), failures=1)
    ends, said = list[Phase](), list[list[str]]()
    for number, interval in enumerate(pairwise(scrapes)):
        world = World(tmp_path / f"{number}")
        ends.append(world.run(world.state(guard, steps=(50,)), replayed(interval)))
        said.append(world.said)
    assert [words for words, end in zip(said, ends, strict=True) if end is Phase.ROLLED_BACK] == []
    assert ends.count(Phase.DONE) >= TRIES / 4, "a guard that is seldom content proves nothing"
