"""Prometheus metrics for hot paths: an observation is an append, and is counted before it is read.

prometheus-client's own take a lock for each, and a histogram walks along its buckets. These are exact, too, from any
thread. They take `_buckets`, `_sum`, `_upper_bounds`, `_value`, `_metric_init` and `_child_samples` from the private
parts of prometheus-client 0.26.
"""

from abc import abstractmethod
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from time import time
from typing import TypeVar

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar, Sample

T = TypeVar("T")

HELD_LIMIT = 500
"""Observations held without a scrape: to count so many stands in a loop's way for half a millisecond."""


class _Held(MetricWrapperBase):
    """Holds amounts, and which of them have an exemplar, until there are many or somebody reads."""

    def _metric_init(self) -> None:
        super()._metric_init()  # type: ignore[no-untyped-call]  # the library's own, of which it types no name
        self._held, self._marked = deque[float](), deque[Exemplar]()

    def hold(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Take this amount, which is not below 0 in a counter."""
        self._held.append(amount)
        if exemplar is not None:
            self._marked.append(Exemplar(exemplar, amount, time()))
        if len(self._held) >= HELD_LIMIT:
            self._settle()

    def _child_samples(self) -> Iterable[Sample]:
        self._settle()
        return super()._child_samples()

    @abstractmethod
    def _settle(self) -> None:
        """Count what is held; what comes meanwhile is counted too, or stays held."""


class HotHistogram(_Held, Histogram):
    """A histogram."""

    observe = _Held.hold

    def _settle(self) -> None:
        counts: dict[int, int] = {}
        total, bounds = 0.0, self._upper_bounds
        for amount in _taken(self._held):
            place = bisect_left(bounds, amount)
            counts[place] = counts.get(place, 0) + 1
            total += amount
        self._sum.inc(total)
        for place, count in counts.items():
            self._buckets[place].inc(count)
        for exemplar in _taken(self._marked):
            self._buckets[bisect_left(bounds, exemplar.value)].set_exemplar(exemplar)


class HotCounter(_Held, Counter):
    """A counter."""

    inc = _Held.hold

    def _settle(self) -> None:
        self._value.inc(sum(_taken(self._held)))
        for exemplar in _taken(self._marked):
            self._value.set_exemplar(exemplar)


def _taken(held: deque[T]) -> Iterator[T]:
    for _ in range(len(held)):
        try:
            yield held.popleft()
        except IndexError:  # another thread was quicker
            return
