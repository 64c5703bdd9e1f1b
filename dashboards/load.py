"""Load test: what `streamgauge bench --metrics-port` sees as a client, beside what the servers say of the same time."""

from app.telemetry import metrics
from dashboards.panels import COUNT, PER_SECOND, SECONDS, TALL, Board, Query, Section, heat, lines, number
from dashboards.promql import buckets, largest, quantile, rate, total

# As in loadtest/exposition.py, which these pages may not import: a test holds the two together.
OPEN, ENDED, EVENTS = "loadtest_streams_open", "loadtest_streams_ended_total", "loadtest_events_received_total"
DELIVERY, FIRST_TOKEN, FIRST_BYTE = (f"loadtest_{name}_seconds" for name in ("delivery", "first_token", "first_byte"))
LATE = "loadtest_start_delay_seconds"
LAG = "loadtest_loop_lag_seconds"

BOARD = Board(
    uid="streamgauge-load",
    title="streamgauge / Load test",
    description="What the load generator sees as a client, beside what the servers say of the same time. They ought to "
    "agree; where they do not, the network, or the generator itself, is between them.",
    leads_to="streamgauge-overview",
    series="(streamgauge|loadtest)_.+",
    sections=[
        Section(
            "Load",
            [
                number(
                    "Streams open",
                    "As the load generator counts them.",
                    COUNT,
                    Query(total(OPEN), "open"),
                    height=TALL,
                ),
                lines(
                    "Streams, from both sides",
                    "Open at the client, viewers at the APIs, being produced by the workers.",
                    COUNT,
                    Query(total(OPEN, "backend"), "client, {{backend}}"),
                    Query(total(metrics.VIEWERS, "backend"), "viewers, {{backend}}"),
                    Query(total(metrics.STREAMS_PRODUCING, "backend"), "producing, {{backend}}"),
                    width=10,
                ),
                lines(
                    "Streams ended",
                    "As the client saw it: `failed` is a broken or a wrong stream, `censored` one that the end of "
                    "the run cut off.",
                    PER_SECOND,
                    Query(rate(ENDED, "backend", "outcome"), "{{outcome}}, {{backend}}"),
                    width=10,
                ),
                lines(
                    "Events, from both sides",
                    "Received by the client, and sent by the APIs: apart for longer than a moment, something is lost.",
                    PER_SECOND,
                    Query(rate(EVENTS, "backend"), "received, {{backend}}"),
                    Query(rate(metrics.EVENTS_SENT, "backend"), "sent, {{backend}}"),
                ),
                lines(
                    "The generator itself",
                    "How late its loop runs, and how late it starts a stream: what it adds to every figure by itself.",
                    SECONDS,
                    Query(largest(LAG, "instance"), "loop lag, {{instance}}"),
                    Query(quantile(0.99, LATE), "start p99"),
                ),
            ],
        ),
        Section(
            "Latency",
            [
                lines(
                    "Delivery p50, from both sides",
                    "Server: to the socket write's return. Client: to the event being parsed.",
                    SECONDS,
                    Query(quantile(0.5, DELIVERY, "backend"), "client, {{backend}}"),
                    Query(quantile(0.5, metrics.DELIVERY_SECONDS, "backend"), "server, {{backend}}"),
                    log=True,
                ),
                lines(
                    "Delivery p95, from both sides",
                    "Server: to the socket write's return. Client: to the event being parsed.",
                    SECONDS,
                    Query(quantile(0.95, DELIVERY, "backend"), "client, {{backend}}"),
                    Query(quantile(0.95, metrics.DELIVERY_SECONDS, "backend"), "server, {{backend}}"),
                    log=True,
                ),
                lines(
                    "First token p95, from both sides",
                    "From the POST. The client's begins when it sends, the server's when it has received.",
                    SECONDS,
                    Query(quantile(0.95, FIRST_TOKEN, "backend"), "client, {{backend}}"),
                    Query(quantile(0.95, metrics.FIRST_TOKEN_SECONDS, "backend"), "server, {{backend}}"),
                ),
                lines(
                    "First byte p95, from both sides",
                    "From a viewer's request to the first bytes of its body.",
                    SECONDS,
                    Query(quantile(0.95, FIRST_BYTE, "backend"), "client, {{backend}}"),
                    Query(quantile(0.95, metrics.FIRST_BYTE_SECONDS, "backend"), "server, {{backend}}"),
                ),
                heat(
                    "Delivery at the client through $backend",
                    "Events per bucket, as the client received them.",
                    buckets(DELIVERY),
                ),
            ],
        ),
    ],
)
