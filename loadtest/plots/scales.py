"""From a value to a place on the paper, and the ticks that let a reader go back."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

Label = Callable[[float], str]
# Where a tail plot is ruled: each step holds a tenth of what the one before held.
PERCENTS = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999)
STEPS = (1.0, 2.0, 5.0)
CROWD = 7


class Tick(NamedTuple):
    """A ruled line; a `minor` one has no label where there is little room."""

    at: float
    label: str
    minor: bool = False


class Scale(Protocol):
    """One axis of a plot."""

    def at(self, value: float) -> float:
        """Its place; what lies outside is put on the edge."""
        ...

    def ticks(self) -> list[Tick]:
        """Round values within it, with their labels."""
        ...


class Linear:
    """Equal differences are equally long."""

    def __init__(self, low: float, high: float, start: float, end: float, label: Label) -> None:
        self._low, self._high = low, high if high > low else low + 1
        self._start, self._end, self._label = start, end, label

    def at(self, value: float) -> float:
        """Its place."""
        share = (min(self._high, max(self._low, value)) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[Tick]:
        """Four to nine round values; every second one is minor."""
        step = _round_step((self._high - self._low) / 8)
        first = math.ceil(self._low / step - 1e-9)
        count = math.floor(self._high / step + 1e-9) - first + 1
        values = [(first + index) * step for index in range(count)]
        return [Tick(self.at(value), self._label(value), index % 2 == 1) for index, value in enumerate(values)]


class Log:
    """Equal ratios are equally long; zero and below lie on the lower edge."""

    def __init__(self, low: float, high: float, start: float, end: float, label: Label) -> None:
        self._low, self._high = low, high if high > low else low * 10
        self._start, self._end, self._label = start, end, label

    def at(self, value: float) -> float:
        """Its place."""
        value = min(self._high, max(self._low, value))
        share = math.log(value / self._low) / math.log(self._high / self._low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> list[Tick]:
        """Powers of ten, and within few of them also twice and five times."""
        low, high = math.floor(math.log10(self._low)), math.ceil(math.log10(self._high))
        steps = STEPS if math.log10(self._high / self._low) <= 3 else STEPS[:1]
        values = [(step, step * 10.0**power) for power in range(low, high + 1) for step in steps]
        inside = [(step, value) for step, value in values if self._low * 0.999 <= value <= self._high * 1.001]
        # Labels of 2 and 5 are left out where it is narrow, unless they would be the only ones.
        few = sum(step == 1 for step, _ in inside) < 2
        # Side by side, so many labels would touch each other even where there is room.
        close = self._start < self._end and len(inside) > CROWD
        return [
            Tick(self.at(value), "" if close and step == STEPS[1] else self._label(value), step != 1 and not few)
            for step, value in inside
        ]


class Tail:
    """Percentiles, each further tenth of what is left as long as the one before: the scale of HDR plots."""

    def __init__(self, highest: float, start: float, end: float) -> None:
        self._nines = max(1.0, _nines(highest))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """Its place."""
        return self._start + min(1.0, _nines(value) / self._nines) * (self._end - self._start)

    def ticks(self) -> list[Tick]:
        """0, 50, 90, 99 … as far as it goes."""
        inside = [percent for percent in PERCENTS if _nines(percent) <= self._nines * 1.001]
        return [Tick(self.at(percent), f"{percent:g} %", percent == 0) for percent in inside]


def around(values: Iterable[float], *, least: float = 1e-6) -> tuple[float, float]:
    """The lower and upper edge for a logarithmic axis: the nearest 1, 2 or 5 of a power of ten outside all values."""
    found = [max(least, value) for value in values]
    if not found:
        return least, least * 10
    low, high = 1 / _round_step(1 / min(found)), _round_step(max(found))
    return (low, high) if high > low else (low / 2, high * 2)


def above(value: float) -> float:
    """The upper edge for a linear axis from 0: a little more than the value, and a round one."""
    step = _round_step(value / 8) if value > 0 else 1.0
    return step * math.ceil(value * 1.02 / step)


def _nines(percent: float) -> float:
    return -math.log10(max(1e-9, 1 - percent / 100))


def _round_step(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next((step * power for step in STEPS if step * power >= value * 0.999999), 10 * power)
