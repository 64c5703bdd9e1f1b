"""Numbers as they are read: a duration with its unit, a count, an amount of memory."""

from collections.abc import Mapping
from typing import Any

# Of fewer values these are the largest one, whatever their name.
LEAST_VALUES = {"p90": 10, "p95": 20, "p99": 100, "p999": 1000}


def seconds(value: float | None) -> str:
    """A duration with a unit fit to read."""
    if value is None:
        return "–"
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def signed_seconds(value: float | None) -> str:
    """The same of what may be below zero."""
    return seconds(value) if value is None or value >= 0 else f"−{seconds(-value)}"


def number(value: float | None) -> str:
    """A count or a rate fit to read."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """So many of them, as they are counted in English: 1 stream, 1,000 streams."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def mebibytes(value: int | None) -> str:
    """An amount of memory fit to read."""
    return "–" if value is None else f"{value / 2**20:.0f} MiB"


def percentile(spread: Mapping[str, Any], column: str) -> str:
    """The percentile of what came whole, if there are enough of them."""
    return "–" if spread["count"] < LEAST_VALUES.get(column, 1) else seconds(spread[column])


def enough(count: int, percent: float) -> bool:
    """Whether a percentile of so many values is another than the largest of them."""
    return percent >= 100 or round(count * (100 - percent), 6) >= 100


def adjusted(spread: Mapping[str, Any], column: str) -> str:
    """The percentile with what never came whole counted as infinite, if there are enough of all."""
    if spread["count"] + spread["adjusted"]["lost"] < LEAST_VALUES.get(column, 1):
        return "–"
    if column in spread["adjusted"]["infinite"] or (column == "max" and spread["adjusted"]["lost"]):
        return "∞"
    if column == "max":
        return seconds(spread["max"])
    return seconds(spread["adjusted"][column])
