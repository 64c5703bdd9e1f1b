"""Streaming overview: what viewers get now, per backend, side by side."""

from app.telemetry import metrics
from dashboards.flips import FLIPS
from dashboards.panels import COUNT, PER_SECOND, SECONDS, SHARE, Board, Query, Section, heat, lines, number
from dashboards.promql import buckets, quantile, rate, share, total

FAILED = 'outcome="failed"'
FAILED_SHARE = share(metrics.STREAMS_ENDED, metrics.STREAMS_ENDED, where=FAILED)

BOARD = Board(
    uid="streamgauge-overview",
    title="streamgauge / Streaming overview",
    description="What viewers get now: latency, concurrency and errors, per backend side by side.",
    leads_to="streamgauge-lifecycle",
    marks=[FLIPS],
    sections=[
        Section(
            "Now",
            [
                number(
                    "Viewers",
                    "Open SSE responses over all API processes.",
                    COUNT,
                    Query(total(metrics.VIEWERS), "viewers"),
                ),
                number(
                    "Answers under way",
                    "Streams that workers are producing.",
                    COUNT,
                    Query(total(metrics.STREAMS_PRODUCING), "streams"),
                ),
                number(
                    "Delivery p95",
                    "95 % of chunks reach the socket within this time of the producer holding them.",
                    SECONDS,
                    Query(quantile(0.95, metrics.DELIVERY_SECONDS), "p95"),
                ),
                number(
                    "Queue wait p95",
                    "95 % of messages are taken by a worker within this time of the POST.",
                    SECONDS,
                    Query(quantile(0.95, metrics.QUEUE_WAIT_SECONDS), "p95"),
                ),
                number(
                    "Answers ended",
                    "Streams brought to their terminal per second.",
                    PER_SECOND,
                    Query(rate(metrics.STREAMS_ENDED), "ended"),
                ),
                number(
                    "Failed share",
                    "Share of ended streams whose outcome is `failed`. Empty while no stream ends.",
                    SHARE,
                    Query(FAILED_SHARE, "failed"),
                    bad_from=0.01,
                ),
            ],
        ),
        Section(
            "Latency",
            [
                lines(
                    "Delivery latency",
                    "From the producer holding a chunk to the socket write's return: the model's pace is not in it.",
                    SECONDS,
                    Query(quantile(0.5, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p50"),
                    Query(quantile(0.95, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p95"),
                    Query(quantile(0.99, metrics.DELIVERY_SECONDS, "backend"), "{{backend}} p99"),
                    log=True,
                    exemplars=True,
                ),
                lines(
                    "Time before the first token",
                    "POST to first token as viewers saw it, its parts (queue, model), and a viewer's wait for a byte.",
                    SECONDS,
                    Query(quantile(0.95, metrics.QUEUE_WAIT_SECONDS, "backend"), "queue wait p95, {{backend}}"),
                    Query(quantile(0.95, metrics.MODEL_TTFT_SECONDS, "backend"), "model p95, {{backend}}"),
                    Query(quantile(0.95, metrics.FIRST_TOKEN_SECONDS, "backend"), "first token p95, {{backend}}"),
                    Query(quantile(0.95, metrics.FIRST_BYTE_SECONDS, "backend"), "first byte p95, {{backend}}"),
                    exemplars=True,
                ),
                heat(
                    "Delivery latency through $backend",
                    "Chunks per bucket. Where viewers look by themselves, the sawtooth up to their interval is the "
                    "backend's nature; where they are told, a second band means that readers fell back to their log.",
                    buckets(metrics.DELIVERY_SECONDS),
                ),
            ],
        ),
        Section(
            "Load",
            [
                lines(
                    "Concurrency",
                    "Streams being produced and viewers connected.",
                    COUNT,
                    Query(total(metrics.STREAMS_PRODUCING, "backend"), "producing, {{backend}}"),
                    Query(total(metrics.VIEWERS, "backend"), "viewers, {{backend}}"),
                ),
                lines(
                    "Chunks",
                    "Chunks that stores acknowledged, and events written to viewers.",
                    PER_SECOND,
                    Query(rate(metrics.CHUNKS_APPENDED, "backend"), "stored, {{backend}}"),
                    Query(rate(metrics.EVENTS_SENT, "backend"), "sent, {{backend}}"),
                ),
            ],
        ),
        Section(
            "Errors",
            [
                lines(
                    "Streams ended, by outcome",
                    "`failed` is the model's or ours; `cancelled` is a person's wish.",
                    PER_SECOND,
                    Query(rate(metrics.STREAMS_ENDED, "backend", "outcome"), "{{outcome}}, {{backend}}"),
                    width=8,
                ),
                lines(
                    "Processes that avoid the chunk store",
                    "New messages go to polling there until the store has been well for a while.",
                    COUNT,
                    Query(total(metrics.STORE_AWAY), "away"),
                    width=8,
                ),
                lines(
                    "Messages refused, by dependency",
                    "Requests answered 503 because a server was away. Empty as long as none was.",
                    PER_SECOND,
                    Query(rate(metrics.POSTS_REFUSED, "dependency"), "{{dependency}}"),
                    width=8,
                ),
            ],
        ),
    ],
)
