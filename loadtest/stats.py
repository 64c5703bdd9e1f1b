"""The arithmetic: histograms, percentiles and ratios. Pure functions of numbers."""

import math
import statistics
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, compress
from typing import Any

from hdrh.histogram import HdrHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p999": 99.9}
HIGHEST_US = 60_000_000
MOST_QUARTETS = 100
"""Nobody waits for more."""
# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom.
_T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Distribution:
    """Durations in an HDR histogram of 1 µs to 60 s with 3 digits, and a count of those that never ended.

    Values below 1 µs count as 1 µs (and as `below_zero` when negative), values above 60 s as 60 s (`above_range`).
    """

    def __init__(self, values_ns: Iterable[int] = (), *, lost: int = 0) -> None:
        self._histogram = HdrHistogram(1, HIGHEST_US, 3)
        self.count = 0
        self.below_zero = 0
        self.above_range = 0
        self.lost = lost
        self.max_ns: int | None = None
        self._total_ns = 0
        self._ranked: tuple[list[int], list[int]] | None = None
        for value in values_ns:
            self.add(value)

    def add(self, value_ns: int) -> None:
        """Count one duration."""
        self._ranked = None
        self.count += 1
        self._total_ns += value_ns
        self.below_zero += value_ns < 0
        self.above_range += value_ns > HIGHEST_US * 1000
        self._histogram.record_value(min(HIGHEST_US, max(1, round(value_ns / 1000))))
        self.max_ns = value_ns if self.max_ns is None else max(self.max_ns, value_ns)

    def merge(self, other: "Distribution") -> None:
        """Count everything that the other one counted; the order does not matter, and nothing is rounded again."""
        self._ranked = None
        self._histogram.add(other._histogram)
        for name in ("count", "below_zero", "above_range", "lost", "_total_ns"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.max_ns = max((one for one in (self.max_ns, other.max_ns) if one is not None), default=None)

    @property
    def mean_s(self) -> float | None:
        """The exact mean of what ended, in seconds; null when nothing did."""
        return self._total_ns / self.count / 1e9 if self.count else None

    def percentile_s(self, percent: float) -> float | None:
        """The percentile of what ended, in seconds; null when nothing did."""
        if not self.count:
            return None
        # The histogram's own `get_value_at_percentile`, without its walk through 23,000 counters in Python.
        places, totals = self._ranks()
        rank = self._histogram.get_target_count_at_percentile(percent)
        value_us = self._histogram.get_value_from_index(places[bisect_left(totals, rank)])
        return float(self._histogram.get_highest_equivalent_value(value_us)) / 1e6

    def adjusted_s(self, percent: float) -> float | None:
        """The percentile with every lost one counted as +∞; null stands for infinite (or for no value at all)."""
        total = self.count + self.lost
        if not total:
            return None
        rank = max(1, math.ceil(percent * total / 100 - 1e-9))
        if rank > self.count:
            return None
        return self.percentile_s(100 * rank / self.count)

    def as_json(self) -> dict[str, Any]:
        """The published shape: successes only, and `adjusted` beside it."""
        names = PERCENTILES.items()
        adjusted = {name: self.adjusted_s(percent) for name, percent in names}
        return {
            **{name: self._exact(self.percentile_s(percent)) for name, percent in names},
            "max": None if self.max_ns is None else self.max_ns / 1e9,
            "count": self.count,
            "adjusted": {
                **{name: self._exact(value) for name, value in adjusted.items()},
                "lost": self.lost,
                "infinite": [name for name, value in adjusted.items() if value is None and self.lost],
            },
            "below_zero": self.below_zero,
            "above_range": self.above_range,
        }

    def _ranks(self) -> tuple[list[int], list[int]]:
        """The counters that are not 0, and how many durations lie in each and those before it."""
        if self._ranked is None:
            histogram = self._histogram
            first, last = map(histogram._counts_index_for, (histogram.min_value, histogram.max_value))
            counts = histogram.counts[first : last + 1]
            self._ranked = list(compress(range(first, last + 1), counts)), list(accumulate(filter(None, counts)))
        return self._ranked

    def _exact(self, value: float | None) -> float | None:
        # A bucket's upper edge can lie above the largest value in it; the maximum itself is known exactly.
        return value if value is None or self.max_ns is None else max(1e-6, min(value, self.max_ns / 1e9))


def log_ratio_interval(log_ratios: Sequence[float]) -> dict[str, float | int | None]:
    """exp(mean) of the log-ratios with a 95 % t-interval; one unit gives an estimate without an interval."""
    count = len(log_ratios)
    if not count:
        return {"estimate": None, "low": None, "high": None, "quartets": 0}
    mean = statistics.fmean(log_ratios)
    if count == 1:
        return {"estimate": math.exp(mean), "low": None, "high": None, "quartets": 1}
    half = t_95(count - 1) * statistics.stdev(log_ratios) / math.sqrt(count)
    return {
        "estimate": math.exp(mean),
        "low": math.exp(mean - half),
        "high": math.exp(mean + half),
        "quartets": count,
    }


def welch_log_ratio(before: Sequence[float], after: Sequence[float]) -> dict[str, float | int | None]:
    """after ÷ before of two independent sets of logs, with Welch's 95 % interval: their spreads may differ.

    A set of one gives an estimate without an interval. `quartets` counts the smaller set.
    """
    sizes = (len(before), len(after))
    if not min(sizes):
        return {"estimate": None, "low": None, "high": None, "quartets": 0}
    change = statistics.fmean(after) - statistics.fmean(before)
    if min(sizes) == 1:
        return {"estimate": math.exp(change), "low": None, "high": None, "quartets": 1}
    parts = [statistics.variance(one) / len(one) for one in (before, after)]
    error = math.sqrt(sum(parts))
    spread = sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    # Rounded down, which errs on the side of the wider interval.
    degrees = max(1, math.floor(sum(parts) ** 2 / spread)) if spread else sum(sizes) - 2
    half = t_95(degrees) * error
    return {
        "estimate": math.exp(change),
        "low": math.exp(change - half),
        "high": math.exp(change + half),
        "quartets": min(sizes),
    }


def quartets_to_tell(ratio: float, high: float, quartets: int, limit: float) -> int | None:
    """About how many quartets in each of two runs would keep `limit` out of the interval, if all scattered like these.

    Null: more than `MOST_QUARTETS`. Where one run scatters much more than the other, fewer will do.
    """
    half, distance = math.log(high / ratio), abs(math.log(limit / ratio))
    error = half * math.sqrt(quartets) / t_95(2 * (quartets - 1))
    counts = range(quartets + 1, MOST_QUARTETS + 1)
    return next((count for count in counts if t_95(2 * (count - 1)) * error / math.sqrt(count) < distance), None)


def t_95(degrees: int) -> float:
    """The two-sided 95 % point of Student's t (from a table; above 30 by the usual expansion, right to 1e-3)."""
    if degrees <= len(_T_95):
        return _T_95[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees)


def peak(intervals: Iterable[tuple[int, int]]) -> int:
    """The most intervals open at one instant; an end and a start at the same instant do not overlap."""
    steps = sorted((at, change) for start, end in intervals for at, change in ((start, 1), (end, -1)))
    height = highest = 0
    for _, change in steps:
        height += change
        highest = max(highest, height)
    return highest
