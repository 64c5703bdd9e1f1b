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
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Exemplar, Sample

HELD_LIMIT = 500
"""Observations held without a scrape: to count so many stands in a loop's way for half a millisecond."""


class _Held(MetricWrapperBase):
    """Holds amounts until there are many or somebody reads, and exemplars until somebody reads."""

    def _metric_init(self) -> None:
        super()._metric_init()  # type: ignore[no-untyped-call]  # the library's own, of which it types no name
        self._held, self._marked = deque[float](), dict[Any, tuple[dict[str, str], float, float]]()

    def hold(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Take this amount, which is not below 0 in a counter."""
        self._held.append(amount)
        if exemplar is not None:  # only the last one of a bucket is ever read
            self._marked[self._value_of(amount)] = exemplar, amount, time()
        if len(self._held) >= HELD_LIMIT:
            self._settle()

    def _child_samples(self) -> Iterable[Sample]:
        self._settle()
        marked, self._marked = self._marked, {}
        for value, exemplar in tuple(marked.items()):
            value.set_exemplar(Exemplar(*exemplar))
        return super()._child_samples()

    @abstractmethod
    def _settle(self) -> None:
        """Count what is held; what comes meanwhile is counted too, or stays held."""

    @abstractmethod
    def _value_of(self, amount: float) -> Any:
        """Give the library's own value in which this amount counts, and which has an exemplar."""


class HotHistogram(_Held, Histogram):
    """A histogram."""

    observe = _Held.hold

    def _value_of(self, amount: float) -> Any:
        return self._buckets[bisect_left(self._upper_bounds, amount)]

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


class HotCounter(_Held, Counter):
    """A counter."""

    inc = _Held.hold

    def _value_of(self, amount: float) -> Any:  # noqa: ARG002 - a counter has one
        return self._value

    def _settle(self) -> None:
        self._value.inc(sum(_taken(self._held)))


def _taken(held: deque[float]) -> Iterator[float]:
    for _ in range(len(held)):
        try:
            yield held.popleft()
        except IndexError:  # another thread was quicker
            return
