"""The plots of a bench run: what each shows, and the same in numbers."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loadtest import series, summary, wording
from loadtest.clock import Offset
from loadtest.page import Figure, Table
from loadtest.plots.forest import Line, forest
from loadtest.plots.heatmap import heatmap
from loadtest.plots.lines import Kind, Series, lines
from loadtest.plots.scales import Linear, Log, Scale, Tail, above, around
from loadtest.plots.svg import Box
from loadtest.series import Point, Sample
from loadtest.summary import Measured
from loadtest.wording import enough, number, seconds

if TYPE_CHECKING:
    from loadtest.bench_page import Rows

BOX = Box()
PERCENTS = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0, 99.9, 100.0)
PARTS = 10
COLUMNS, ROWS = 72, 30
COMPARED = {
    "delivery_latency.p50": "delivery p50",
    "delivery_latency.p95": "delivery p95",
    "delivery_latency.p99": "delivery p99",
    "ttfb.p50": "ttfb p50",
    "overhead_ttft.p50": "overhead p50",
}
COUNTED_SAYS = (
    "From the servers' and the machine's own counters around each block; warm-ups and twins are shown too. PostgreSQL "
    "reports a connection's last second late, so a block holds a little of the one before it: the tables of the run "
    "take that out."
)


class Shown:
    """A run with what several plots need of it."""

    def __init__(self, result: Mapping[str, Any], names: Sequence[str], rows: "Rows", offset: Offset) -> None:
        self.result, self.names, self.rows, self.offset = result, names, rows, offset

    @cached_property
    def measured(self) -> dict[str, list[Measured]]:
        """The streams that the figures rest on, by backend."""
        every = summary.measure(self.rows.streams)
        return {name: [one for one in every if one.row.backend == name and one.measured] for name in self.names}

    @cached_property
    def deliveries(self) -> dict[str, Sample]:
        """Delivery latencies by backend."""
        return {name: series.deliveries(streams, self.offset) for name, streams in self.measured.items()}

    @cached_property
    def began_ns(self) -> int:
        """The first instant of the run that anyone saw."""
        return min((row.intended_ns for row in self.rows.streams), default=0)

    @property
    def legend(self) -> list[tuple[str, int]]:
        """Each backend's colour, the same in every plot."""
        return [(name, colour) for colour, name in enumerate(self.names)]

    def each(self, points: Callable[[str], Sequence[Point]], kind: Kind = "line") -> list[Series]:
        """One series a backend."""
        return [Series(name, colour, points(name), kind) for name, colour in self.legend]


def percentiles(shown: Shown) -> Figure:
    """The tail of each backend, HDR style."""
    curves = {name: series.by_percentile(sample) for name, sample in shown.deliveries.items()}
    highest = max((curve[-1][0] for curve in curves.values() if curve), default=99.0)
    y = log_scale(values_of(curves.values()), vertical=True)
    scales: tuple[Scale, Scale] = (Tail(highest, BOX.left, BOX.right), y)
    return Figure(
        title="Delivery latency by percentile",
        says="How long all but the slowest chunks took. Each step to the right leaves a tenth as many. "
        + _lost_says(shown.deliveries),
        svg=lines(
            "Delivery latency by percentile", scales, ("percentile", "delivery latency"), shown.each(curves.__getitem__)
        ),
        table=_percent_table(shown.deliveries),
        legend=shown.legend,
    )


def delivered(shown: Shown) -> Figure:
    """The cumulative distribution of delivery latency."""
    return _ecdf(shown, shown.deliveries, "Delivery latency, cumulative", "delivery latency", "chunks")


def first_bytes(shown: Shown) -> Figure:
    """The cumulative distribution of the time to the first byte."""
    found = {name: series.durations(streams, summary.ttfb_ns) for name, streams in shown.measured.items()}
    return _ecdf(shown, found, "Time to first byte, cumulative", "ttfb", "streams")


def added(shown: Shown) -> Figure:
    """The cumulative distribution of what the system adds to the model's time to the first token."""
    found = {name: series.durations(streams, summary.overhead_ttft_ns) for name, streams in shown.measured.items()}
    return _ecdf(shown, found, "Added to the first token, cumulative", "overhead_ttft", "streams")


def first_tokens(shown: Shown) -> Figure:
    """The cumulative distribution of the time to the first token."""
    found = {name: series.durations(streams, summary.ttft_ns) for name, streams in shown.measured.items()}
    return _ecdf(shown, found, "Time to first token, cumulative", "ttft", "streams")


def gaps(shown: Shown) -> Figure:
    """The cumulative distribution of the time from one chunk to the next."""
    found = {name: series.gaps(streams, shown.offset) for name, streams in shown.measured.items()}
    return _ecdf(shown, found, "Gap between chunks, cumulative", "inter_chunk_latency", "gaps")


def heatmaps(shown: Shown) -> list[Figure]:
    """Each backend's delivery latency over the time in which its blocks were played."""
    joined = {name: series.moments(streams, shown.offset) for name, streams in shown.measured.items()}
    limits = around(one.took_s for found, _ in joined.values() for one in found)
    figures = []
    for name, colour in shown.legend:
        found, begins = joined[name]
        until_s = begins[-1] or 1.0
        cells = series.cells(found, until_s, limits, COLUMNS, ROWS)
        x = Linear(0, until_s, BOX.left, BOX.right, lambda value: f"{value:g} s")
        label = f"Delivery latency of {name} over time"
        drawn = heatmap(
            label,
            (x, Log(*limits, BOX.bottom, BOX.top, seconds)),
            ("time in its own blocks, joined", "delivery latency"),
            (cells.times, cells.durations),
            cells.counts,
            colour,
        )
        rows = [_part_row(found, until_s, part) for part in range(PARTS)]
        table = Table(["seconds", "chunks", "p50", "p99", "max"], rows)
        blocks = wording.counted(len(begins) - 1, "block")
        says = f"{blocks}. The deeper the colour, the more of that moment's chunks took so long."
        figures.append(Figure(label, says, drawn, table))
    return figures


def ratios(shown: Shown) -> Figure:
    """Every other backend ÷ the first, with intervals, over the noise floor."""
    baseline = shown.names[0]
    by_quartet = {name: shown.result["backends"][name]["by_quartet"] for name in shown.names}
    found = [
        (name, colour, said, series.ratio(by_quartet, baseline, name, metric))
        for name, colour in shown.legend[1:]
        for metric, said in COMPARED.items()
    ]
    floor = shown.result["noise_floor"] or {}
    kept = [
        *((f"{name}, {said}" if len(shown.names) > 2 else said, colour, one) for name, colour, said, one in found),
        *((f"noise floor {label}", None, one) for label, one in floor.items()),
    ]
    kept = [(label, colour, one) for label, colour, one in kept if one["estimate"] is not None]
    p50 = floor.get("p50") or {}
    band = (p50["low"], p50["high"]) if p50.get("low") is not None else None
    rows = [[label, *(_times(one[key]) for key in ("estimate", "low", "high"))] for label, _, one in kept]
    title = f"Ratio to {baseline}"
    says = (
        "Left of 1 is faster. The point is the geometric mean over the quartets, the line its 95 % interval. "
        "Within the grey band, the noise floor of p50, a difference means nothing."
    )
    drawn = [Line(label, colour, one["estimate"], one["low"], one["high"]) for label, colour, one in kept]
    svg = forest(title, f"÷ {baseline}", drawn, band)
    legend = shown.legend if len(shown.names) > 2 else ()
    return Figure(title, says, svg, Table(["", "estimate", "low", "high"], rows), legend)


def counted(shown: Shown) -> list[Figure]:
    """What the servers and the machine counted in each block, as far as anyone was asked."""
    blocks = series.per_block(shown.rows.plan, shown.rows.counters, shown.rows.host, shown.rows.generator)
    wanted: list[tuple[str, str, str, Callable[[float | None], str]]] = [
        ("queries_per_s", "Database transactions per second", "transactions/s", number),
        ("store_ops_per_s", "Store commands per second", "commands/s", number),
        ("busy_share", "Processor time in use, all cores", "share", _percent),
        ("generator_share", "The load generator's share of one core", "share", _percent),
    ]
    return [
        _block_figure(shown, blocks, *one)
        for one in wanted
        if any(getattr(block, one[0]) is not None for block in blocks)
    ]


def _block_figure(
    shown: Shown,
    blocks: Sequence[series.PerBlock],
    key: str,
    title: str,
    unit: str,
    said: Callable[[float | None], str],
) -> Figure:
    values = [value for block in blocks if (value := getattr(block, key)) is not None]
    x = Linear(0, max(block.at_s for block in blocks), BOX.left, BOX.right, lambda value: f"{value:g} s")
    y = Linear(0, 1 if unit == "share" else above(max(values)), BOX.bottom, BOX.top, said)
    points = {
        name: [(block.at_s, getattr(block, key)) for block in blocks if block.backend == name] for name in shown.names
    }
    svg = lines(title, (x, y), ("time of the run", unit), shown.each(points.__getitem__, "dots"))
    rows = [
        [f"{block.block + 1}", block.backend + (" (twin)" if block.twin else ""), said(getattr(block, key))]
        for block in blocks
    ]
    return Figure(title, "One point a block.", svg, Table(["block", "backend", unit], rows), shown.legend, "dots")


def _ecdf(shown: Shown, found: Mapping[str, Sample], title: str, axis: str, unit: str) -> Figure:
    curves = {name: series.cumulative(sample) for name, sample in found.items()}
    x = Log(*around(across for curve in curves.values() for across, _ in curve), BOX.left, BOX.right, seconds)
    y = Linear(0, 100, BOX.bottom, BOX.top, lambda value: f"{value:g} %")
    svg = lines(title, (x, y), (axis, f"share of {unit}"), shown.each(curves.__getitem__))
    says = f"The share of {unit} that took no longer. {_lost_says(found)}"
    return Figure(title, says, svg, _percent_table(found), shown.legend)


def log_scale(values: Sequence[float], *, vertical: bool) -> Log:
    """An axis of durations that holds all of these."""
    start, end = (BOX.bottom, BOX.top) if vertical else (BOX.left, BOX.right)
    return Log(*around(values), start, end, seconds)


def values_of(curves: Any) -> list[float]:
    """What there is of the curves upwards."""
    return [up for curve in curves for _, up in curve if up is not None]


def _lost_says(found: Mapping[str, Sample]) -> str:
    lost = [f"{sample.lost} of {sample.total} of {name}" for name, sample in found.items() if sample.lost]
    return f"Never came whole, so counted as infinite: {', '.join(lost)}." if lost else ""


def _percent_table(found: Mapping[str, Sample]) -> Table:
    header = ["", *(f"p{percent:g}" for percent in PERCENTS[:-1]), "max", "count", "lost"]
    rows = [
        [name, *(_at(sample, percent) for percent in PERCENTS), number(len(sample.values)), number(sample.lost)]
        for name, sample in found.items()
    ]
    return Table(header, rows)


def _at(sample: Sample, percent: float) -> str:
    if not enough(sample.total, percent):
        return "–"
    value = series.at_percentile(sample, percent)
    return "∞" if value is None and sample.lost else seconds(value)


def _part_row(found: Sequence[series.Moment], until_s: float, part: int) -> list[str]:
    low, high = until_s * part / PARTS, until_s * (part + 1) / PARTS
    last = part == PARTS - 1
    inside = Sample(sorted(one.took_s for one in found if low <= one.at_s < high or (last and one.at_s >= high)), 0)
    cells = [_at(inside, percent) for percent in (50, 99, 100)]
    return [span(low, high), number(len(inside.values)), *cells]


def span(low: float, high: float) -> str:
    """A stretch of seconds, as a row is named."""
    return f"{low:.0f} – {high:.0f}"


def _times(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.3g}×"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"
