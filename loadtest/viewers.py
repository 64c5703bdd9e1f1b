"""Who watches a stream, and how: each scenario's viewers, decided before the run and the same for the same seed.

Places in a stream are counted in events that the viewer has seen, not in seconds, so that they do not move with the
system's speed.
"""

import random
from collections.abc import Callable

import msgspec

DROPS = 3
# A viewer that comes back at once would wait for the model; so long later, something waits for it.
AWAY_S = (0.1, 0.4)
LATE = (0.3, 0.8)
CANCEL = (0.2, 0.6)
VIEWERS = 3
# About what an event takes on the wire; a slow viewer reads at a quarter of the pace at which they are made.
EVENT_BYTES, SLOW_SHARE, SLOW_BYTES = 150, 0.25, 512


class Drop(msgspec.Struct, frozen=True):
    """The connection breaks once `after` events were seen, and the viewer comes back `away_s` later."""

    after: int
    away_s: float


class Slowness(msgspec.Struct, frozen=True):
    """At most so many bytes are taken at once, with a pause after each time."""

    bytes_at_once: int
    pause_s: float


class Viewer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One viewer of a stream. It joins once the first viewer has seen `joins_after` events."""

    joins_after: int = 0
    drops: tuple[Drop, ...] = ()
    slow: Slowness | None = None


class Watching(msgspec.Struct, frozen=True, omit_defaults=True):
    """All viewers of one stream; the first of them cancels it once it has seen `cancel_after` events."""

    viewers: tuple[Viewer, ...] = (Viewer(),)
    cancel_after: int | None = None


Watch = Callable[[random.Random, int, int, float], Watching]
"""Gives the viewers of a stream of so many chunks, at so many a second, in the segment of that number."""


def once(_rng: random.Random, _segment: int, _chunks: int, _rate: float) -> Watching:
    """One viewer from the beginning to the end."""
    return Watching()


def reconnecting(rng: random.Random, _segment: int, chunks: int, _rate: float) -> Watching:
    """One viewer who loses the connection at random places (also before the first event) and resumes."""
    places = sorted(rng.sample(range(chunks), min(DROPS, chunks)))
    return Watching((Viewer(drops=tuple(Drop(place, round(rng.uniform(*AWAY_S), 3)) for place in places)),))


def late(rng: random.Random, _segment: int, chunks: int, _rate: float) -> Watching:
    """A second viewer who comes when part of the answer is there, and begins at its beginning."""
    return Watching((Viewer(), Viewer(joins_after=max(1, round(chunks * rng.uniform(*LATE))))))


def several(_rng: random.Random, _segment: int, _chunks: int, _rate: float) -> Watching:
    """Several viewers from the beginning."""
    return Watching((Viewer(),) * VIEWERS)


def beside_slow(_rng: random.Random, segment: int, _chunks: int, rate: float) -> Watching:
    """In one of a quartet's two segments, each stream has a second viewer who can't keep up; now the first, now the
    second of them, so that a drift of the machine is not taken for the slow viewers' doing.
    """
    if not segment or (segment + (segment - 1) // 2) % 2:
        return Watching()
    pause_s = SLOW_BYTES / (SLOW_SHARE * EVENT_BYTES * rate)
    return Watching((Viewer(), Viewer(slow=Slowness(SLOW_BYTES, round(pause_s, 4)))))


def coming_and_going(rng: random.Random, segment: int, chunks: int, rate: float) -> Watching:
    """A viewer from the beginning to the end; or one who loses the connection and resumes; or a late one beside it."""
    return rng.choice((once, reconnecting, late))(rng, segment, chunks, rate)


def cancelling(rng: random.Random, _segment: int, chunks: int, _rate: float) -> Watching:
    """One viewer who has had enough midway."""
    return Watching(cancel_after=max(1, round(chunks * rng.uniform(*CANCEL))))
