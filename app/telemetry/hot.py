"""Prometheus metrics for hot paths: an observation is an append, and is counted before it is read.

prometheus-client's own take a lock for each, and a histogram walks along its buckets. These are exact, too, from any
thread. They take `_buckets`, `_sum`, `_upper_bounds`, `_value` and `_child_samples` from the private parts of
prometheus-client 0.26.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.samples import Sample

HELD_LIMIT = 500
"""Observations held without a scrape: to count so many stands in a loop's way for half a millisecond."""


class HotHistogram(Histogram):
    """A histogram. What has an exemplar, one observation a second of each stream, goes the library's own way."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._held = deque[float]()

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe this amount."""
        if exemplar is not None:
            super().observe(amount, exemplar)
            return
        self._held.append(amount)
        if len(self._held) >= HELD_LIMIT:
            self._settle()

    def _child_samples(self) -> Iterable[Sample]:
        self._settle()
        return super()._child_samples()

    def _settle(self) -> None:
        """Put what is held into its buckets; one that comes meanwhile is put there too, or stays held."""
        counts: dict[int, int] = {}
        total, bounds = 0.0, self._upper_bounds
        for amount in _taken(self._held):
            place = bisect_left(bounds, amount)
            counts[place] = counts.get(place, 0) + 1
            total += amount
        self._sum.inc(total)
        for place, count in counts.items():
            self._buckets[place].inc(count)


class HotCounter(Counter):
    """A counter."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._held = deque[float]()

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Add this amount, which is not below 0."""
        if exemplar is not None:
            super().inc(amount, exemplar)
            return
        self._held.append(amount)
        if len(self._held) >= HELD_LIMIT:
            self._settle()

    def _child_samples(self) -> Iterable[Sample]:
        self._settle()
        return super()._child_samples()

    def _settle(self) -> None:
        self._value.inc(sum(_taken(self._held)))


def _taken(held: deque[float]) -> Iterator[float]:
    for _ in range(len(held)):
        try:
            yield held.popleft()
        except IndexError:  # another thread was quicker
            return
