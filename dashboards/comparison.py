"""Backend comparison: what polling costs against pub/sub, in latency, database work and CPU."""

from app.telemetry import metrics
from dashboards.panels import PER_SECOND, RATIO, SECONDS, Board, Query, Section, heat, lines, number
from dashboards.promql import buckets, quantile, rate, selector

CPU = f"sum (rate({selector('process_cpu_seconds_total')}[$__rate_interval]))"
POLLING, PUSH = 'backend="polling"', 'backend="pubsub"'


def ratio(fraction: float) -> str:
    """How many times as long a chunk takes through polling."""
    slow, fast = (quantile(fraction, metrics.DELIVERY_SECONDS, where=where) for where in (POLLING, PUSH))
    return f"{slow} / {fast}"


BOARD = Board(
    uid="streamgauge-comparison",
    title="streamgauge / Backend comparison",
    description="Polling against pub/sub. For a verdict use the load test's report: it pairs runs and knows its noise.",
    leads_to="streamgauge-overview",
    sections=[
        Section(
            "Latency",
            [
                number(
                    "p50, polling ÷ pub/sub",
                    "Empty unless both backends deliver in this window.",
                    RATIO,
                    Query(ratio(0.5), "p50"),
                    width=8,
                ),
                number(
                    "p95, polling ÷ pub/sub",
                    "Empty unless both backends deliver in this window.",
                    RATIO,
                    Query(ratio(0.95), "p95"),
                    width=8,
                ),
                number(
                    "p99, polling ÷ pub/sub",
                    "Empty unless both backends deliver in this window.",
                    RATIO,
                    Query(ratio(0.99), "p99"),
                    width=8,
                ),
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
                    "Publish latency through polling",
                    "Chunks per bucket: one insert in PostgreSQL each.",
                    buckets(metrics.PUBLISH_SECONDS, POLLING),
                ),
                heat(
                    "Publish latency through pub/sub",
                    "Chunks per bucket: one script in Valkey each, many in one write.",
                    buckets(metrics.PUBLISH_SECONDS, PUSH),
                ),
            ],
        ),
        Section(
            "Cost",
            [
                lines(
                    "Database work",
                    "Units of database work per second; polling pays one per poll of each viewer and one per chunk.",
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
