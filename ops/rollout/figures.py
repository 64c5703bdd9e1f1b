"""What a backend did in one interval: the growth of the processes' own counters. Pure.

The candidate and the baseline run in the same processes at the same time; the label `backend` tells them apart.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from app.telemetry.metrics import HandOver

LATENCIES = {
    "delivery_latency": "streamgauge_delivery_seconds",
    "ttfb": "streamgauge_first_byte_seconds",
    "ttft": "streamgauge_first_token_seconds",
}
"""What an objective calls it: the histogram that holds it."""
COUNTERS = {
    "ended": "streamgauge_streams_ended_total",
    "lost": "streamgauge_streams_reaped_total",
    "handovers": "streamgauge_handovers_total",
    "events": "streamgauge_events_sent_total",
    "appended": "streamgauge_chunks_appended_total",
    "duplicates": "streamgauge_duplicate_appends_total",
    "repairs": "streamgauge_gap_repairs_total",
}
NAMES = (*(f"{name}_bucket" for name in LATENCIES.values()), *COUNTERS.values())
"""Every series that is read."""
PROCESS = "instance"
"""The label that tells the processes apart."""


class Series(NamedTuple):
    """One counter, or one bucket, of one process."""

    name: str
    labels: frozenset[tuple[str, str]]

    def label(self, name: str) -> str:
        """Give a label's value, or nothing."""
        return next((value for key, value in self.labels if key == name), "")


Scrape = Mapping[Series, float]
"""What all processes had counted at one moment."""


def grown(before: Scrape, after: Scrape) -> dict[Series, float]:
    """Give by how much each series grew.

    One that is lower than before began anew with its process. A process that was not there before is left out: nobody
    knows when it counted what it has.
    """
    known = {series.label(PROCESS) for series in before}
    growth = dict[Series, float]()
    for series, value in after.items():
        if series.label(PROCESS) in known:
            earlier = before.get(series, 0.0)
            growth[series] = value - earlier if value >= earlier else value
    return growth


class Latency(msgspec.Struct, frozen=True):
    """A histogram's growth: how many observations were at most each edge, in seconds, and at last how many in all."""

    edges: tuple[float, ...] = ()
    counts: tuple[float, ...] = (0.0,)

    @property
    def samples(self) -> int:
        """How many there were."""
        return round(self.counts[-1])

    def quantile(self, q: float) -> float | None:
        """Give a quantile as Prometheus's `histogram_quantile` does; None without observations."""
        if not self.counts[-1]:
            return None
        rank, lower, below = q * self.counts[-1], 0.0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=False):
            if count >= rank:
                inside = count - below
                return lower + (edge - lower) * ((rank - below) / inside if inside else 1.0)
            lower, below = edge, count
        return lower

    def above(self, limit_s: float) -> int:
        """Count the observations above a limit; those of the bucket it lies in are taken to lie evenly."""
        lower, below = 0.0, 0.0
        for edge, count in zip(self.edges, self.counts, strict=False):
            if limit_s <= edge:
                return round(self.counts[-1] - below - (count - below) * (limit_s - lower) / (edge - lower))
            lower, below = edge, count
        return round(self.counts[-1] - below)


class Figures(msgspec.Struct, frozen=True):
    """One backend in one interval. `counts` has `failed`, `lost`, `handovers`, `duplicates` and `repairs`."""

    latencies: dict[str, Latency]
    counts: dict[str, float]
    streams: float
    """That ended here, or had to leave because their store was lost; those that somebody moved end elsewhere."""
    events: float
    appended: float

    def latency(self, name: str) -> Latency:
        """Give one of the distributions."""
        return self.latencies.get(name, Latency())


def figures_of(backend: str, growth: Mapping[Series, float]) -> Figures:
    """Gather what one backend did in all processes."""
    mine = [(series, value) for series, value in growth.items() if series.label("backend") == backend]
    total = {word: _sum(mine, name) for word, name in COUNTERS.items()}
    total["handovers"] = _sum(mine, COUNTERS["handovers"], reason=HandOver.LOST)
    return Figures(
        latencies={word: _latency(mine, f"{name}_bucket") for word, name in LATENCIES.items()},
        counts={
            "failed": _sum(mine, COUNTERS["ended"], outcome="failed"),
            **{word: total[word] for word in ("lost", "handovers", "duplicates", "repairs")},
        },
        streams=total["ended"] + total["lost"] + total["handovers"],
        events=total["events"],
        appended=total["appended"] + total["duplicates"],
    )


def _sum(growth: Iterable[tuple[Series, float]], name: str, **labels: str) -> float:
    wanted = labels.items()
    return sum(value for series, value in growth if series.name == name and wanted <= series.labels)


def _latency(growth: Iterable[tuple[Series, float]], name: str) -> Latency:
    counts = defaultdict[float, float](float)
    for series, value in growth:
        if series.name == name:
            counts[float(series.label("le"))] += value
    total = counts.pop(math.inf, 0.0)
    edges = tuple(sorted(counts))
    return Latency(edges, (*(counts[edge] for edge in edges), total))
