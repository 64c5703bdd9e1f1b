"""When the flag is flipped under load, and to what: decided before the run, the same for the same seed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec

# Streams outlast several flips, so that each flip meets streams in every part of their length.
STREAM_S, QUICK_STREAM_S = 12.0, 6.0
EVERY_S, QUICK_EVERY_S = 5.0, 3.0
LEAST_FLIPS = 6
CONCURRENT, QUICK_CONCURRENT = 200, 40


@dataclass(frozen=True)
class Flipping:
    """How a run flips, and what its system does when the chunk store is lost. Whoever drives the system knows it.

    `on_store` are the backends whose streams live in the chunk store, `safe` is where those go that lose it, and
    `settle_s` how long after its return new messages may still be kept away from it.
    """

    every_s: float | None = None
    loses_store: bool = False
    on_store: tuple[str, ...] = ()
    safe: str = ""
    outage_s: float = 0.0
    settle_s: float = 0.0


class PlannedFlip(msgspec.Struct, frozen=True, omit_defaults=True):
    """Send every new message to `backend`, so long after the load began; the store may be lost at that moment."""

    at_s: float
    backend: str
    loses_store: bool = False


class Timetable(msgspec.Struct, frozen=True):
    """All flips of a run, which begins with `first`. The rest says what the loss of the store may cost."""

    first: str
    flips: tuple[PlannedFlip, ...]
    on_store: tuple[str, ...] = ()
    safe: str = ""
    outage_s: float = 0.0
    settle_s: float = 0.0


class Flip(msgspec.Struct, frozen=True):
    """One that was done: ordered at `at_ns`, and in force for every message from `done_ns` on.

    Null instants of the store: it was not lost, or not back at the end.
    """

    at_ns: int
    done_ns: int
    before: str
    backend: str
    lost_ns: int | None = None
    back_ns: int | None = None


class Done(msgspec.Struct, frozen=True):
    """Every flip that was done, and how many streams the system says it handed over meanwhile; null: nobody asked."""

    flips: tuple[Flip, ...] = ()
    handovers: int | None = None


class Controls(NamedTuple):
    """What the load test may do to the system that it measures. It shares no code with it, and is lent these."""

    flip: Callable[[str], object]
    """Returns once every new message obeys."""
    lose_store: Callable[[], object] | None = None
    return_store: Callable[[], object] | None = None
    handovers: Callable[[], int] | None = None
    """How many streams were handed over until now."""


def timetable(seed: int, backends: Sequence[str], how: Flipping, *, quick: bool, duration_s: float | None) -> Timetable:
    """Every ordered pair of backends once before any of them again, in an order that is drawn.

    Without a duration each pair has its flip. The store is lost at a flip away from it, and the next flip waits until
    new messages have found back.
    """
    if len(backends) < 2:
        raise ValueError("there is nothing to flip between: name two or more --backends, or all")
    rng = random.Random(f"{seed}/flips")  # noqa: S311
    begin_s, every_s = pace(how, quick=quick)
    pairs = len(backends) * (len(backends) - 1)
    count = max(LEAST_FLIPS, pairs)
    outage_s = how.outage_s + how.settle_s if how.loses_store else 0.0
    if duration_s is not None:
        count = int((duration_s - begin_s - outage_s) / every_s + 1e-9)
        if count < 1:
            raise ValueError(
                f"no flip fits into {duration_s:g} s: give a --duration of {duration(1, how, quick=quick):g}s"
            )
    names = route(rng, backends, count)
    loses = _where_to_lose(rng, names, how) if how.loses_store else None
    waits = [begin_s, *(every_s + outage_s * (flip == loses) for flip in range(count - 1))]
    flips = tuple(
        PlannedFlip(round(sum(waits[: flip + 1]), 3), name, loses_store=flip == loses)
        for flip, name in enumerate(names[1:])
    )
    return Timetable(names[0], flips, how.on_store, how.safe, how.outage_s, how.settle_s)


def pace(how: Flipping, *, quick: bool) -> tuple[float, float]:
    """Seconds until the first flip, when as many streams run as ever will, and from one to the next."""
    return stream_s(quick=quick), how.every_s or (QUICK_EVERY_S if quick else EVERY_S)


def stream_s(*, quick: bool) -> float:
    """How long a stream of such a run is."""
    return QUICK_STREAM_S if quick else STREAM_S


def duration(flips: int, how: Flipping, *, quick: bool) -> float:
    """How long messages go on arriving, for so many flips; after the last one as long as after any."""
    begin_s, every_s = pace(how, quick=quick)
    return begin_s + every_s * flips + (how.outage_s + how.settle_s if how.loses_store else 0.0)


def route(rng: random.Random, backends: Sequence[str], flips: int) -> list[str]:
    """The backends in the order of their turns: a random Eulerian circuit of all ordered pairs, and then another."""
    names = [rng.choice(list(backends))]
    while len(names) <= flips:
        names += _circuit(rng, backends, names[-1])[1:]
    return names[: flips + 1]


def _circuit(rng: random.Random, backends: Sequence[str], start: str) -> list[str]:
    """Hierholzer's: walk until there is no way on, and insert the walks that were left out."""
    left = {name: rng.sample([other for other in backends if other != name], len(backends) - 1) for name in backends}
    walked, found = [start], list[str]()
    while walked:
        if ways := left[walked[-1]]:
            walked.append(ways.pop())
        else:
            found.append(walked.pop())
    return found[::-1]


def _where_to_lose(rng: random.Random, names: Sequence[str], how: Flipping) -> int:
    """A flip away from the store, where streams lose it; best to a backend that needs it as well."""
    away = [flip for flip, (before, _) in enumerate(pairwise(names)) if before in how.on_store]
    if not away:
        raise ValueError(
            f"no flip of this run leaves a backend on the chunk store ({', '.join(how.on_store) or 'there is none'}): "
            "add one to --backends, give more --duration, or leave the store alone with --no-kill"
        )
    return rng.choice([flip for flip in away if names[flip + 1] in how.on_store] or away)
