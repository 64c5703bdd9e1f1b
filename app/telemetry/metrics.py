"""Every metric of the app, one constant each. Seconds and counts; labels are bounded."""

from prometheus_client import Counter, Gauge, Histogram

# Factor sqrt(2) from 100 us to 60 s: a quantile read from a dashboard is at most 19 % off.
LATENCY_BUCKETS = tuple(round(0.0001 * 2 ** (step / 2), 7) for step in range(39))
BACKEND = ("backend",)

MESSAGES_POSTED = Counter("streamgauge_messages_posted", "Messages accepted, by the backend that was pinned.", BACKEND)
POSTS_REFUSED = Counter("streamgauge_posts_refused", "Messages refused because a server was away.", ("dependency",))
STREAMS_ENDED = Counter(
    "streamgauge_streams_ended",
    "Streams that a worker brought to their terminal, by outcome.",
    ("backend", "outcome"),
)
STREAMS_PRODUCING = Gauge("streamgauge_streams_producing", "Streams that this worker is answering now.", BACKEND)
CHUNKS_APPENDED = Counter("streamgauge_chunks_appended", "Chunks that the store acknowledged.", BACKEND)
DELTAS_COALESCED = Counter(
    "streamgauge_deltas_coalesced",
    "Model deltas that shared a chunk because the one before was not stored yet.",
    BACKEND,
)
PUBLISH_SECONDS = Histogram(
    "streamgauge_publish_seconds",
    "From the producer holding a delta to the store's ack.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
QUEUE_WAIT_SECONDS = Histogram(
    "streamgauge_queue_wait_seconds",
    "From POST to a worker accepting the task.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
MODEL_TTFT_SECONDS = Histogram(
    "streamgauge_model_ttft_seconds", "From the model request to its first delta.", buckets=LATENCY_BUCKETS
)
WORKER_LOOP_LAG_SECONDS = Gauge("streamgauge_worker_loop_lag_seconds", "How late the worker's event loop runs.")
HANDOVERS = Counter("streamgauge_handovers", "Live streams moved to the safe backend because their store was lost.")
FENCED = Counter(
    "streamgauge_fenced_attempts", "Attempts that stopped because a newer one had taken the stream.", BACKEND
)
REAPED = Counter("streamgauge_streams_reaped", "Streams closed because their producer's lease ran out.", BACKEND)

DATABASE_UNITS = Counter(
    "streamgauge_database_units",
    "Units of database work: one statement each on the hot paths, one transaction elsewhere.",
)
VIEWERS = Gauge("streamgauge_viewers", "Open SSE responses of this process.", BACKEND)
RESUMES = Counter("streamgauge_resumes", "SSE requests that named a last event id.", BACKEND)
EVENTS_SENT = Counter("streamgauge_events_sent", "SSE events written to viewers.", BACKEND)
DELIVERY_SECONDS = Histogram(
    "streamgauge_delivery_seconds",
    "From the producer holding a chunk's last delta to the socket write's return; first sight only, no replays.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
