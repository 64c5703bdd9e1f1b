"""What a run sees as a client, as Prometheus metrics while it runs: the other side of the dashboard *Load test*.

Nothing is done for a chunk: what is open is counted when somebody scrapes, and a stream's latencies when it has ended.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from loadtest import summary
from loadtest.clock import Offset
from loadtest.integrity import faults
from loadtest.recorder import Recording, StreamRow

# The same as the servers' own, so that a difference of a bucket is one of the latency.
EDGES_S = tuple(round(0.0001 * 2 ** (step / 2), 7) for step in range(39))
LABELS = [f"{edge}" for edge in EDGES_S] + ["+Inf"]


class Durations:
    """A histogram for each backend."""

    def __init__(self, name: str, what: str) -> None:
        self._name, self._what = name, what
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(LABELS))
        self._sums: Counter[str] = Counter()

    def add(self, backend: str, values_ns: Iterable[int | None]) -> None:
        """Count these, except what never came."""
        counts = self._counts[backend]
        for value_ns in values_ns:
            if value_ns is not None:
                counts[bisect_left(EDGES_S, value_ns / 1e9)] += 1
                self._sums[backend] += value_ns

    def family(self) -> HistogramMetricFamily:
        """As a scrape sees it."""
        found = HistogramMetricFamily(self._name, self._what, labels=["backend"])
        for backend, counts in self._counts.items():
            found.add_metric([backend], list(zip(LABELS, accumulate(counts), strict=True)), self._sums[backend] / 1e9)
        return found


class Exposition(Collector):
    """Follows every recording of this process. `lag_ns` are the newest samples of how late its loop runs."""

    def __init__(self, offset: Offset, lag_ns: Sequence[int]) -> None:
        self._offset, self._lag_ns = offset, lag_ns
        self._open: dict[int, Recording] = {}
        self._ended: Counter[tuple[str, str]] = Counter()
        self._events: Counter[str] = Counter()
        self._delivery = Durations(
            "loadtest_delivery_seconds", "From the producer holding a chunk to the client parsing it; no replays."
        )
        self._first_token = Durations("loadtest_first_token_seconds", "From sending the POST to the first content.")
        self._first_byte = Durations("loadtest_first_byte_seconds", "From a viewer's request to its first byte.")
        self._delay = Durations("loadtest_start_delay_seconds", "How late a stream was started, by the plan.")

    def began(self, recording: Recording) -> None:
        """Count it as open."""
        self._open[id(recording)] = recording

    def ended(self, recording: Recording, row: StreamRow) -> None:
        """Count what it came to."""
        del self._open[id(recording)]
        backend, broken = row.backend, faults(row)
        self._ended[backend, "failed" if broken and row.outcome == "ended" else row.outcome] += 1
        self._events[backend] += len(row.kinds)
        if row.sent_ns is not None:
            self._delay.add(backend, [row.sent_ns - row.intended_ns])
        if not broken:
            if row.first_byte_ns is not None and row.opened_ns is not None:
                self._first_byte.add(backend, [row.first_byte_ns - row.opened_ns])
            self._first_token.add(backend, [summary.ttft_ns(row)])
            self._delivery.add(backend, summary.deliveries_ns(row, self._offset))

    def collect(self) -> Iterable[Metric]:
        """Give everything to one scrape."""
        waiting, events = Counter(one.arrival.backend for one in self._open.values()), Counter(self._events)
        for one in self._open.values():
            events[one.arrival.backend] += one.events
        open_now = GaugeMetricFamily("loadtest_streams_open", "Streams asked for and not over.", labels=["backend"])
        for backend in {*events, *waiting}:
            open_now.add_metric([backend], waiting[backend])
        received = CounterMetricFamily("loadtest_events_received", "SSE events that came.", labels=["backend"])
        for backend, count in events.items():
            received.add_metric([backend], count)
        ended = CounterMetricFamily(
            "loadtest_streams_ended", "Streams that are over, and how for the client.", labels=["backend", "outcome"]
        )
        for labels, count in self._ended.items():
            ended.add_metric(list(labels), count)
        lag = GaugeMetricFamily("loadtest_loop_lag_seconds", "The latest that this process's loop ran lately.")
        lag.add_metric([], max(self._lag_ns, default=0) / 1e9)
        histograms = (self._delivery, self._first_token, self._first_byte, self._delay)
        return [open_now, received, ended, lag, *(one.family() for one in histograms)]
