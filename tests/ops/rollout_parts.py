"""What a rollout's tests are made of: counters as processes would show them, and a flag and a clock in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.rollout_record import RolloutWord
from app.telemetry.metrics import LATENCY_BUCKETS
from ops.rollout.controller import Controller, FlagAwayError, FlagTakenError, Surroundings
from ops.rollout.display import word_of
from ops.rollout.figures import COUNTERS, LATENCIES, Scrape, Series
from ops.rollout.guard import Guard, parse_guard
from ops.rollout.sources import Source, SourceError
from ops.rollout.state import Journal, Judgement, Phase, State

GUARD = """
objectives:
  delivery_latency.p99: {ratio: 1.5, slack: 50ms}
  failed: {slack: 1%, limit: 5%}
minimum: {streams: 10, chunks: 100}
cooldown: 0s
limit: 10m
"""


@dataclass
class Did:
    """What a backend does in one interval."""

    latency_s: float = 0.005
    streams: int = 100
    failed: int = 0
    repairs: int = 0
    lost: int = 0
    """Streams that left because their store was lost."""
    moved: int = 0
    """Streams that left because somebody asked for it."""
    chunks: int = 10
    """Of each stream."""


def grow(scrape: Scrape, backend: str, did: Did, process: str = "a") -> Scrape:
    """A scrape after an interval in which a backend did this in one process."""
    counted = dict(scrape)

    def count(name: str, amount: float, **labels: str) -> None:
        series = Series(name, frozenset({"instance": process, **labels}.items()))
        counted[series] = counted.get(series, 0.0) + amount

    events = did.streams * did.chunks
    for name, samples in zip(LATENCIES.values(), (events, did.streams, did.streams), strict=True):
        for edge in (*LATENCY_BUCKETS, float("inf")):
            count(f"{name}_bucket", samples if did.latency_s <= edge else 0, backend=backend, le=str(edge))
    count(COUNTERS["ended"], did.streams - did.failed, backend=backend, outcome="done")
    count(COUNTERS["ended"], did.failed, backend=backend, outcome="failed")
    count(COUNTERS["events"], events, backend=backend)
    count(COUNTERS["appended"], events, backend=backend)
    count(COUNTERS["repairs"], did.repairs, backend=backend)
    count(COUNTERS["handovers"], did.lost, backend=backend, reason="lost")
    count(COUNTERS["handovers"], did.moved, backend=backend, reason="asked")
    return counted


@dataclass
class World:
    """A system that does as told in each interval, on a clock that moves when somebody waits for it."""

    folder: Path
    candidate: Callable[[float], Did] = lambda _: Did()
    """By the percentage it has."""
    baseline: Callable[[float], Did | None] = lambda _: Did()
    now_s: float = 1_000_000.0
    percent: float = 0.0
    generation: int = 7
    moves: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    shown: list[RolloutWord] = field(default_factory=list)
    gates: set[float] = field(default_factory=set)
    away: Iterator[bool] | None = None
    """Whether the flag's database is, look by look."""
    blind: Callable[[], bool] = lambda: False
    counted: Scrape = field(default_factory=lambda: grow({}, "polling", Did()))

    def look(self) -> tuple[int, float]:
        if self.away is not None and next(self.away, False):
            raise FlagAwayError("the database did not answer")
        return self.generation, self.percent

    def move(self, percent: float, generation: int, why: str) -> int:
        if generation != self.generation:
            raise FlagTakenError("somebody else moved it.")
        self.percent, self.generation = percent, generation + 1
        self.moves.append(percent)
        if self.away is not None:
            next(self.away, False)
        return self.generation

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def scrape(self) -> Scrape:
        if self.blind():
            raise SourceError("http://worker did not answer")
        self.counted = grow(self.counted, "pubsub", self.candidate(self.percent))
        beside = self.baseline(self.percent)
        if beside is not None:
            self.counted = grow(self.counted, "polling", beside)
        return self.counted

    def state(self, guard: str | Guard = GUARD, steps: tuple[float, ...] = (1, 10, 50, 100)) -> State:
        parsed = parse_guard(guard) if isinstance(guard, str) else guard
        return State("pubsub", "polling", steps, 60.0, parsed, generation=self.generation)

    def around(self, source: Source | None = None) -> Surroundings:
        return Surroundings(
            flag=self,
            source=source or self.scrape,
            journal=self.journal,
            say=self.said.append,
            tell=lambda event, **facts: self.told.append((event, facts)),
            is_open=lambda _, percent: percent in self.gates,
            show=self.show,
            now=lambda: self.now_s,
            sleep=self.sleep,
        )

    def show(self, state: State, judgement: Judgement | None) -> None:
        self.shown.append(word_of(state, judgement, self.now_s))

    @property
    def journal(self) -> Journal:
        self.folder.mkdir(exist_ok=True)
        return Journal(self.folder)

    def run(self, state: State, source: Source | None = None) -> Phase:
        self.journal.begin(state)
        return Controller(state, self.around(source)).run()
