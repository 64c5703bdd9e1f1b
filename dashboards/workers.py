"""Workers and queue: how much waits, how full workers are, and whether loops and pools keep up."""

from app.telemetry import metrics
from dashboards.panels import COUNT, PER_SECOND, SECONDS, SHARE, Board, Query, Section, lines
from dashboards.promql import largest, quantile, rate, total

BOARD = Board(
    uid="streamgauge-workers",
    title="streamgauge / Workers and queue",
    description="How much waits, how full the workers are, and whether loops and pools keep up.",
    leads_to="streamgauge-rollout",
    sections=[
        Section(
            "Queue",
            [
                lines(
                    "Messages that wait",
                    "In the broker, fetched by no worker. Each API sees the same queue, every 5 s.",
                    COUNT,
                    Query(largest(metrics.QUEUE_DEPTH), "waiting"),
                    width=8,
                ),
                lines(
                    "Oldest message",
                    "How long the next message to be fetched has waited.",
                    SECONDS,
                    Query(largest(metrics.QUEUE_OLDEST_SECONDS), "oldest"),
                    width=8,
                ),
                lines(
                    "Queue wait",
                    "From the POST to a worker taking the task.",
                    SECONDS,
                    Query(quantile(0.5, metrics.QUEUE_WAIT_SECONDS), "p50"),
                    Query(quantile(0.99, metrics.QUEUE_WAIT_SECONDS), "p99"),
                    exemplars=True,
                    width=8,
                ),
            ],
        ),
        Section(
            "Workers",
            [
                lines(
                    "Slots in use",
                    "Streams under way as a share of what workers may take; at 100 % the queue grows.",
                    SHARE,
                    Query(f"{total(metrics.STREAMS_PRODUCING)} / {total(metrics.WORKER_SLOTS)}", "in use"),
                ),
                lines(
                    "Loop lag",
                    "How late event loops run: every stream in that process is late by as much.",
                    SECONDS,
                    Query(largest(metrics.WORKER_LOOP_LAG_SECONDS, "instance"), "worker {{instance}}"),
                    Query(largest(metrics.API_LOOP_LAG_SECONDS, "instance"), "API {{instance}}"),
                ),
                lines(
                    "Database connections",
                    "In use, as a share of each process's pool.",
                    SHARE,
                    Query(
                        f"{largest(metrics.DATABASE_CONNECTIONS, 'instance')} / "
                        f"{largest(metrics.DATABASE_POOL_SIZE, 'instance')}",
                        "{{instance}}",
                    ),
                ),
                lines(
                    "Database time",
                    "A unit of work's wait for a connection of the pool, and how long it keeps it.",
                    SECONDS,
                    Query(quantile(0.99, metrics.DATABASE_WAIT_SECONDS), "wait p99"),
                    Query(quantile(0.99, metrics.DATABASE_UNIT_SECONDS), "kept p99"),
                    log=True,
                ),
                lines(
                    "Chunk store",
                    "Commands that it answered, and connections to it that were made anew.",
                    PER_SECOND,
                    Query(rate(metrics.STORE_OPERATIONS, "instance"), "commands, {{instance}}"),
                    Query(rate(metrics.STORE_RECONNECTS, "instance"), "reconnects, {{instance}}"),
                    width=8,
                ),
                lines(
                    "Subscription lag",
                    "A question's round trip on the connection that brings chunks, behind all of them.",
                    SECONDS,
                    Query(quantile(0.5, metrics.HUB_LAG_SECONDS, "backend"), "p50, {{backend}}"),
                    Query(quantile(0.99, metrics.HUB_LAG_SECONDS, "backend"), "p99, {{backend}}"),
                    log=True,
                    width=8,
                ),
                lines(
                    "Versions",
                    "Processes by the version they run: two curves while a release is under way.",
                    COUNT,
                    Query(total(metrics.BUILD, "version"), "{{version}}"),
                    width=8,
                ),
            ],
        ),
    ],
)
