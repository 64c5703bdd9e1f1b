"""Backend comparison: what each backend costs against another, in latency, database work and CPU."""

from app.telemetry import metrics
from dashboards.flips import FLIPS
from dashboards.panels import PER_SECOND, RATIO, SECONDS, Board, Panel, Query, Section, heat, lines, number
from dashboards.promql import buckets, quantile, rate, selector

CPU = f"sum (rate({selector('process_cpu_seconds_total')}[$__rate_interval]))"


def ratio(name: str, fraction: float) -> Panel:
    """How many times as long a chunk takes through the baseline as through each other backend."""
    baseline = quantile(fraction, metrics.DELIVERY_SECONDS, where='backend="$baseline"')
    others = quantile(fraction, metrics.DELIVERY_SECONDS, "backend", where='backend!="$baseline"')
    return number(
        f"{name}, $baseline ÷ each other",
        "How many times as long a chunk takes through $baseline. Empty unless both deliver in this window.",
        RATIO,
        Query(f"{baseline} / on () group_right () {others}"),
        width=8,
        named=True,
    )


BOARD = Board(
    uid="streamgauge-comparison",
    title="streamgauge / Backend comparison",
    description="Backends side by side, each held against a baseline. For a verdict use the load test's report: it "
    "pairs runs and knows its noise.",
    leads_to="streamgauge-overview",
    marks=[FLIPS],
    baseline="polling",
    sections=[
        Section(
            "Latency",
            [
                ratio("p50", 0.5),
                ratio("p95", 0.95),
                ratio("p99", 0.99),
                lines(
                    "Delivery latency",
                    "From the producer holding a chunk to the socket write's return.",
                    SECONDS,
                    Query(quantile(0.5, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p50"),
                    Query(quantile(0.95, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p95"),
                    Query(quantile(0.99, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p99"),
                    log=True,
                    exemplars=True,
                ),
                lines(
                    "Publish latency",
                    "The part before the store: from the producer holding a chunk to the store's acknowledgement.",
                    SECONDS,
                    Query(quantile(0.5, metrics.PUBLISH_SECONDS, "backend"), "{{backend}} p50"),
                    Query(quantile(0.99, metrics.PUBLISH_SECONDS, "backend"), "{{backend}} p99"),
                    log=True,
                    exemplars=True,
                ),
                heat(
                    "Publish latency through $backend",
                    "Chunks per bucket: from the producer holding a chunk to the store's acknowledgement.",
                    buckets(metrics.PUBLISH_SECONDS),
                ),
            ],
        ),
        Section(
            "Cost",
            [
                lines(
                    "Database work",
                    "Units of database work per second: one per append or batch of them where chunks are rows, and one "
                    "per look of each viewer where viewers look by themselves.",
                    PER_SECOND,
                    Query(rate(metrics.DATABASE_UNITS), "units"),
                ),
                lines(
                    "Chunks delivered",
                    "Events written to viewers: what the work beside it was for.",
                    PER_SECOND,
                    Query(rate(metrics.EVENTS_SENT, "backend")),
                ),
                lines(
                    "Database work per chunk",
                    "Read it while one backend carries the load: the processes do not keep separate accounts.",
                    RATIO,
                    Query(f"{rate(metrics.DATABASE_UNITS)} / {rate(metrics.EVENTS_SENT)}", "units per chunk"),
                ),
                lines(
                    "CPU per chunk",
                    "CPU of the chosen processes per chunk delivered. Read it while one backend carries the load.",
                    SECONDS,
                    Query(f"{CPU} / {rate(metrics.EVENTS_SENT)}", "CPU per chunk"),
                ),
                lines(
                    "Deltas that shared a chunk",
                    "Coalescing under backlog: it begins when a store is slower than the model.",
                    PER_SECOND,
                    Query(rate(metrics.DELTAS_COALESCED, "backend")),
                ),
                lines(
                    "Streams ended",
                    "How many streams each backend carried to their terminal.",
                    PER_SECOND,
                    Query(rate(metrics.STREAMS_ENDED, "backend")),
                ),
            ],
        ),
    ],
)
