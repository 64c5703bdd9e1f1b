"""When the streams of a block start: each scenario is a way to place arrivals in time, decided before the run.

The instants are absolute and open: a slow system does not push the next arrival back.
"""

import random
from collections.abc import Callable
from itertools import accumulate

# Of the spike's arrivals, this share comes within this part of the time, in its middle.
SPIKE_SHARE, SPIKE_WIDTH = 0.5, 0.05

Schedule = Callable[[random.Random, int, float], list[float]]


def steady(rng: random.Random, count: int, span_s: float) -> list[float]:
    """Independent of each other and evenly likely over the whole time."""
    return sorted(rng.uniform(0, span_s) for _ in range(count))


def ramp(rng: random.Random, count: int, span_s: float) -> list[float]:
    """A rate that grows from nothing in a straight line."""
    return sorted(span_s * rng.random() ** 0.5 for _ in range(count))


def step(rng: random.Random, count: int, span_s: float) -> list[float]:
    """A rate that doubles at half time: a third of the arrivals before it, two thirds after."""
    half = span_s / 2
    before = count // 3
    return sorted(rng.uniform(0, half) + (half if index >= before else 0) for index in range(count))


def spike(rng: random.Random, count: int, span_s: float) -> list[float]:
    """A steady stream of arrivals, and as many again almost at once in the middle."""
    at_once = round(count * SPIKE_SHARE)
    begin, width = span_s * (1 - SPIKE_WIDTH) / 2, span_s * SPIKE_WIDTH
    return sorted(
        begin + rng.uniform(0, width) if index < at_once else rng.uniform(0, span_s) for index in range(count)
    )


def poisson(rng: random.Random, count: int, span_s: float) -> list[float]:
    """Exponential gaps of the mean rate, as from many readers who know nothing of each other; the end is left open."""
    return list(accumulate(rng.expovariate(count / span_s) for _ in range(count)))


def constant(_rng: random.Random, count: int, span_s: float) -> list[float]:
    """Equal gaps."""
    return [index * span_s / count for index in range(count)]


SCHEDULES: dict[str, Schedule] = {one.__name__: one for one in (steady, ramp, step, spike, poisson, constant)}
