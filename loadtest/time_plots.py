"""The plots over a whole run's time, with the flips of the flag where there were any."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from loadtest import series
from loadtest.bench_plots import BOX, PARTS, Shown, log_scale, span, values_of
from loadtest.page import Figure, Table
from loadtest.plots.lines import Instant, Kind, lines
from loadtest.plots.scales import Linear, Scale, above
from loadtest.series import Point
from loadtest.wording import number, seconds

TIME_BINS = 180
FLIPS_SAY = "The upright lines are the flips, numbered as in the table; ✕ is the loss of the chunk store."


def concurrency(shown: Shown) -> Figure:
    """Streams open at the client over the whole run."""
    says = (
        "The most in each moment, by the backend that they began on." if _flips(shown) else "The backends take turns."
    )
    return _rows_over_time(shown, "Streams open at once", "streams", series.open_streams, says)


def throughput(shown: Shown) -> Figure:
    """Content events received over the whole run."""
    says = "Warm-ups and twins are in it."
    return _rows_over_time(shown, "Chunks received per second", "chunks/s", series.chunks_per_second, says)


def latency(shown: Shown, percent: float) -> Figure:
    """A percentile of the delivery latency of each backend over the whole run, second by second."""
    until_s, bin_s = _axis(shown)
    found = {
        name: series.percentile_over_time(streams, shown.offset, shown.began_ns, bin_s, percent)
        for name, streams in shown.measured.items()
    }
    title = f"Delivery latency over time, p{percent:g}"
    y = log_scale(values_of(found.values()), vertical=True)
    return _over_time(shown, title, (until_s, y), "delivery latency", found, "Of the chunks that came in each second.")


def _rows_over_time(
    shown: Shown, title: str, unit: str, made: Callable[[list[Any], int, float], list[Point]], says: str
) -> Figure:
    until_s, bin_s = _axis(shown)
    rows = {name: [row for row in shown.rows.streams if row.backend == name] for name in shown.names}
    found = {name: made(rows[name], shown.began_ns, bin_s) for name in shown.names}
    y = Linear(0, above(max(values_of(found.values()), default=1)), BOX.bottom, BOX.top, number)
    return _over_time(shown, title, (until_s, y), unit, found, says)


def _over_time(
    shown: Shown, title: str, axes: tuple[float, Scale], unit: str, found: dict[str, list[Point]], says: str
) -> Figure:
    (until_s, y), flips = axes, _flips(shown)
    x = Linear(0, until_s, BOX.left, BOX.right, lambda value: f"{value:g} s")
    # Backends that take turns are told apart by their areas; those that run at once would cover each other.
    kind: Kind = "line" if flips else "area"
    svg = lines(title, (x, y), ("time of the run", unit), shown.each(found.__getitem__, kind), instants=flips)
    said = seconds if unit == "delivery latency" else number
    table = Table(
        ["seconds", *shown.names],
        [
            [span(low, high), *(said(_most(found[name], low, high)) for name in shown.names)]
            for low, high in pairwise(until_s * part / PARTS for part in range(PARTS + 1))
        ],
    )
    sentences = [says, *([FLIPS_SAY] if flips else []), "In the table: the most in each tenth of the run."]
    return Figure(title, " ".join(sentences), svg, table, shown.legend)


def _axis(shown: Shown) -> tuple[float, float]:
    """The length of the run, and of one bin of it, in seconds."""
    ended_ns = max((row.closed_ns or row.intended_ns for row in shown.rows.streams), default=0)
    until_s = max(1.0, (ended_ns - shown.began_ns) / 1e9)
    return until_s, max(1.0, until_s / TIME_BINS)


def _flips(shown: Shown) -> list[Instant]:
    return [
        Instant(
            f"{place}" if one["store_lost_s"] is None else f"{place} ✕",
            one["at_s"],
            f"flip {place}: {one['before']} → {one['backend']}",
        )
        for place, one in enumerate(shown.result.get("flips", []), start=1)
    ]


def _most(points: Sequence[Point], low: float, high: float) -> float | None:
    return max((up for at, up in points if up is not None and low <= at <= high), default=None)
