"""Stream lifecycle and integrity: how streams begin, go on elsewhere and end, and what it took to lose nothing."""

from app.telemetry import metrics
from dashboards.panels import BYTES_PER_SECOND, COUNT, PER_SECOND, SECONDS, Board, Query, Section, lines
from dashboards.promql import quantile, rate

BOARD = Board(
    uid="streamgauge-lifecycle",
    title="streamgauge / Stream lifecycle and integrity",
    description="How streams begin, go on elsewhere and end, and what it took to lose nothing.",
    leads_to="streamgauge-workers",
    sections=[
        Section(
            "Lifecycle",
            [
                lines(
                    "Started and ended",
                    "Messages accepted, attempts begun, streams ended where they were by then, and streams that left "
                    "for polling in between. A lasting lead of begun over ended and left is a growing backlog.",
                    PER_SECOND,
                    Query(rate(metrics.MESSAGES_POSTED, "backend"), "posted, {{backend}}"),
                    Query(rate(metrics.STREAMS_STARTED, "backend"), "begun, {{backend}}"),
                    Query(rate(metrics.STREAMS_ENDED, "backend"), "ended, {{backend}}"),
                    Query(rate(metrics.HANDOVERS, "backend"), "left, {{backend}}"),
                ),
                lines(
                    "Length of a stream",
                    "From the POST to its stored terminal: mostly the model's pace.",
                    SECONDS,
                    Query(quantile(0.5, metrics.STREAM_SECONDS, "outcome"), "p50, {{outcome}}"),
                    Query(quantile(0.95, metrics.STREAM_SECONDS, "outcome"), "p95, {{outcome}}"),
                ),
                lines(
                    "Time between writes",
                    "Between two writes to one viewer: the model's pace, unevenness added by us, and coalescing.",
                    SECONDS,
                    Query(quantile(0.5, metrics.INTER_CHUNK_SECONDS, "backend"), "p50, {{backend}}"),
                    Query(quantile(0.99, metrics.INTER_CHUNK_SECONDS, "backend"), "p99, {{backend}}"),
                ),
                lines(
                    "Bytes sent",
                    "SSE bytes written to viewers.",
                    BYTES_PER_SECOND,
                    Query(rate(metrics.BYTES_SENT, "backend")),
                ),
            ],
        ),
        Section(
            "Resuming",
            [
                lines(
                    "Resumes",
                    "Requests that named a last event id. A jump means that viewers lost their connections together.",
                    PER_SECOND,
                    Query(rate(metrics.RESUMES, "backend")),
                    width=8,
                ),
                lines(
                    "Events replayed",
                    "Events that were stored before their viewer came: the work of late joins and resumes.",
                    PER_SECOND,
                    Query(rate(metrics.EVENTS_REPLAYED, "backend")),
                    width=8,
                ),
                lines(
                    "Length of a replay",
                    "How many events were there already when a viewer came, of those who came so late.",
                    COUNT,
                    Query(quantile(0.5, metrics.REPLAY_EVENTS, "backend"), "p50, {{backend}}"),
                    Query(quantile(0.95, metrics.REPLAY_EVENTS, "backend"), "p95, {{backend}}"),
                    width=8,
                ),
            ],
        ),
        Section(
            "Integrity",
            [
                lines(
                    "Hand-overs",
                    "Live streams moved to polling, because Valkey was lost or somebody asked (rollback --force), "
                    "and new messages sent there.",
                    PER_SECOND,
                    Query(rate(metrics.HANDOVERS, "backend", "reason"), "{{reason}}, from {{backend}}"),
                    Query(rate(metrics.MESSAGES_REROUTED), "rerouted when posted"),
                ),
                lines(
                    "Fenced, repeated, reaped",
                    "Attempts that a newer one ended; appends stored already; streams whose worker was lost for good.",
                    PER_SECOND,
                    Query(rate(metrics.FENCED, "backend"), "fenced, {{backend}}"),
                    Query(rate(metrics.DUPLICATE_APPENDS, "backend"), "repeated append, {{backend}}"),
                    Query(rate(metrics.REAPED, "backend"), "reaped, {{backend}}"),
                ),
                lines(
                    "Repaired",
                    "Messages that the scheduled repair committed from their log, gave up, or enqueued again.",
                    PER_SECOND,
                    Query(rate(metrics.MESSAGES_REPAIRED, "finding"), "{{finding}}"),
                ),
                lines(
                    "Slow viewers",
                    "Times that a viewer's box was full and it went back to the log. It loses nothing by that.",
                    PER_SECOND,
                    Query(rate(metrics.CATCH_UPS), "catch-ups"),
                ),
                lines(
                    "Gaps and duplicates",
                    "Reads of the log that filled a gap in what was heard; entries heard of twice. Viewers see none.",
                    PER_SECOND,
                    Query(rate(metrics.GAP_REPAIRS, "backend"), "repaired, {{backend}}"),
                    Query(rate(metrics.DUPLICATES_DROPPED, "backend"), "dropped, {{backend}}"),
                    width=8,
                ),
                lines(
                    "Transit",
                    "From the producer holding a chunk to the viewer's API holding it: the store and the way there.",
                    SECONDS,
                    Query(quantile(0.5, metrics.TRANSIT_SECONDS, "backend"), "p50, {{backend}}"),
                    Query(quantile(0.99, metrics.TRANSIT_SECONDS, "backend"), "p99, {{backend}}"),
                    log=True,
                    exemplars=True,
                    width=8,
                ),
                lines(
                    "Socket writes",
                    "From holding a batch to the write's return: long means that a viewer does not read.",
                    SECONDS,
                    Query(quantile(0.5, metrics.WRITE_SECONDS, "backend"), "p50, {{backend}}"),
                    Query(quantile(0.99, metrics.WRITE_SECONDS, "backend"), "p99, {{backend}}"),
                    log=True,
                    width=8,
                ),
            ],
        ),
    ],
)
