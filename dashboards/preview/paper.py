"""The paper: SVG elements, round numbers for axes, and values in the units of Grafana that our panels use."""

import math
from collections.abc import Iterable, Sequence
from html import escape

COLOURS = ("#2f6fde", "#d9730d", "#2b8a3e", "#b0307a", "#0f8b9d", "#8a6d00", "#7048c6", "#5f6b7a")
STEPS = (1.0, 2.0, 5.0, 10.0)
SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
TIME = ((60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def element(name: str, inside: Sequence[str] = (), /, **attributes: str | float) -> str:
    """One element; attribute `class_` is class, and `_` stands for `-`."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """A word on the paper."""
    return element("text", [escape(content)], x=x, y=y, **attributes)


def place(value: float) -> str:
    """A coordinate, no more exact than can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def shown(value: float, unit: str) -> str:
    """A value with its unit, three digits at most."""
    match unit:
        case "s":
            return _scaled(value, TIME, " ", "s")
        case "bytes":
            return _scaled(value, BINARY, " ", "B")
        case "binBps":
            return f"{_scaled(value, BINARY, ' ', 'B')}/s"
        case "percentunit":
            return f"{_digits(value * 100)} %"
        case "cps":
            number = _scaled(value, SI, " ", "").strip()
            return f"{number}/s" if number[-1].isalpha() else f"{number} /s"
    return _scaled(value, SI, " ", "").strip()


def round_step(value: float, *, of_bytes: bool = False) -> float:
    """The nearest 1, 2 or 5 of a power of ten that is no less; for bytes of KiB, MiB and so on."""
    if of_bytes:
        size = next((factor for factor, _ in BINARY if value >= factor), 1.0)
        step = round_step(value / size)
        return (step if step <= 500 else 1024.0) * size
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in STEPS if step * power >= value * 0.999999)


class Linear:
    """An axis from 0, or below where values are; equal differences are equally long."""

    def __init__(self, values: Iterable[float], bottom: float, top: float, *, of_bytes: bool = False) -> None:
        found = [*values, 0.0]
        step = round_step((max(found) - min(found)) / 4 or 0.25, of_bytes=of_bytes)
        self._low = step * math.floor(min(found) / step)
        self._high = max(step * math.ceil(max(found) / step - 1e-9), self._low + step)
        self._step, self._bottom, self._top = step, bottom, top

    def at(self, value: float) -> float:
        """Its height."""
        return self._bottom - (value - self._low) / (self._high - self._low) * (self._bottom - self._top)

    def ticks(self) -> list[float]:
        """Round values within it."""
        return [self._low + index * self._step for index in range(round((self._high - self._low) / self._step) + 1)]


class Log:
    """An axis of powers of ten; equal ratios are equally long, and zero lies on the edge."""

    def __init__(self, values: Iterable[float], bottom: float, top: float) -> None:
        found = [value for value in values if value > 0] or [1.0]
        self._low, self._high = math.floor(math.log10(min(found))), math.ceil(math.log10(max(found)))
        self._high = max(self._high, self._low + 1)
        self._bottom, self._top = bottom, top

    def at(self, value: float) -> float:
        """Its height."""
        power = math.log10(value) if value > 0 else self._low
        share = (min(self._high, max(self._low, power)) - self._low) / (self._high - self._low)
        return self._bottom - share * (self._bottom - self._top)

    def ticks(self) -> list[float]:
        """Powers of ten."""
        return [10.0**power for power in range(self._low, self._high + 1)]


def _scaled(value: float, units: Sequence[tuple[float, str]], between: str, least: str) -> str:
    size = abs(value)
    if size == 0:
        return f"0{between}{least}" if least else "0"
    for factor, name in units:
        if size >= factor * 0.9995:
            return f"{_digits(value / factor)}{between}{name}"
    factor, name = units[-1] if units is TIME else (1.0, least)
    return f"{_digits(value / factor)}{between}{name}"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def _text(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else place(value)
