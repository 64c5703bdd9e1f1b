"""Every metric of the app, one constant each. Seconds and counts; labels are bounded."""

from enum import StrEnum
from importlib.metadata import version

from prometheus_client import Counter, Gauge, Histogram, Info

from app.telemetry.hot import HotCounter, HotHistogram

# Factor sqrt(2) from 100 us to 60 s: a quantile read from a dashboard is at most 19 % off.
LATENCY_BUCKETS = tuple(round(0.0001 * 2 ** (step / 2), 7) for step in range(39))
BACKEND = ("backend",)


class HandOver(StrEnum):
    """Why a live stream had to leave its backend."""

    LOST = "lost"
    ASKED = "asked"


MESSAGES_POSTED = Counter("streamgauge_messages_posted", "Messages accepted, by the backend that was pinned.", BACKEND)
POSTS_REFUSED = Counter("streamgauge_posts_refused", "Messages refused because a server was away.", ("dependency",))
MESSAGES_REROUTED = Counter(
    "streamgauge_messages_rerouted", "Messages given to the safe backend because their chunk store was away."
)
STORE_AWAY = Gauge("streamgauge_store_away", "1 while new messages avoid the chunk store, else 0.")
STREAMS_ENDED = Counter(
    "streamgauge_streams_ended",
    "Streams that a worker brought to their terminal, by outcome, and by where they were by then.",
    ("backend", "outcome"),
)
STREAMS_STARTED = Counter(
    "streamgauge_streams_started",
    "Attempts at a stream that a worker began, by where; more than ended when some were lost, go on, or left.",
    BACKEND,
)
STREAMS_PRODUCING = Gauge("streamgauge_streams_producing", "Streams that this worker is answering now.", BACKEND)
CHUNKS_APPENDED = HotCounter("streamgauge_chunks_appended", "Chunks that the store acknowledged.", BACKEND)
DELTAS_COALESCED = Counter(
    "streamgauge_deltas_coalesced",
    "Model deltas that shared a chunk because the one before was not stored yet.",
    BACKEND,
)
PUBLISH_SECONDS = HotHistogram(
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
    "streamgauge_model_ttft_seconds", "From the model request to its first delta.", BACKEND, buckets=LATENCY_BUCKETS
)
WORKER_LOOP_LAG_SECONDS = Gauge("streamgauge_worker_loop_lag_seconds", "How late the worker's event loop runs.")
HANDOVERS = Counter(
    "streamgauge_handovers",
    "Live streams moved to the safe backend from this one, by reason: its store was lost, or somebody asked for it.",
    ("backend", "reason"),
)
FENCED = Counter(
    "streamgauge_fenced_attempts", "Attempts that stopped because a newer one had taken the stream.", BACKEND
)
REAPED = Counter("streamgauge_streams_reaped", "Streams closed because their producer's lease ran out.", BACKEND)

MESSAGES_REPAIRED = Counter(
    "streamgauge_messages_repaired",
    "Messages mended by the scheduled repair: committed from their log, given up, or enqueued again.",
    ["finding"],
)
DATABASE_UNITS = Counter(
    "streamgauge_database_units",
    "Units of database work: one statement each on the hot paths, one transaction elsewhere.",
)
DATABASE_WAIT_SECONDS = HotHistogram(
    "streamgauge_database_wait_seconds",
    "From a unit of database work asking for a connection to having it; long means a pool that is too small.",
    buckets=LATENCY_BUCKETS,
)
DATABASE_UNIT_SECONDS = HotHistogram(
    "streamgauge_database_unit_seconds",
    "How long a unit of database work keeps its connection.",
    buckets=LATENCY_BUCKETS,
)
STORE_OPERATIONS = Counter(
    "streamgauge_store_operations", "Commands that the chunk store answered to this process, counted every half second."
)
STORE_RECONNECTS = Counter("streamgauge_store_reconnects", "Connections to the chunk store made anew after a loss.")
HUB_LAG_SECONDS = Histogram(
    "streamgauge_hub_lag_seconds",
    "How long an answer takes on the connection that brings chunks, behind all of them; asked every second or half.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
GAP_REPAIRS = Counter(
    "streamgauge_gap_repairs",
    "Reads of the log by which a viewer who listens got entries that it had missed.",
    BACKEND,
)
DUPLICATES_DROPPED = Counter(
    "streamgauge_duplicates_dropped", "Entries heard of that a viewer had from the log already.", BACKEND
)
VIEWERS = Gauge("streamgauge_viewers", "Open SSE responses of this process.", BACKEND)
RESUMES = Counter("streamgauge_resumes", "SSE requests that named a last event id.", BACKEND)
EVENTS_SENT = HotCounter("streamgauge_events_sent", "SSE events written to viewers.", BACKEND)
DELIVERY_SECONDS = HotHistogram(
    "streamgauge_delivery_seconds",
    "From the producer holding a chunk's last delta to the socket write's return; first sight only, no replays.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)

FIRST_TOKEN_SECONDS = Histogram(
    "streamgauge_first_token_seconds",
    "From the POST to the socket write of the first content, for viewers that were there when it was stored.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
FIRST_BYTE_SECONDS = Histogram(
    "streamgauge_first_byte_seconds",
    "From a viewer's request reaching its route to the first bytes of the body being written.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
TRANSIT_SECONDS = HotHistogram(
    "streamgauge_transit_seconds",
    "From the producer holding a chunk's last delta to this process holding it; delivery is this and the write.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
WRITE_SECONDS = HotHistogram(
    "streamgauge_write_seconds",
    "From this process holding a batch of chunks to the socket write's return; long means a slow viewer.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
INTER_CHUNK_SECONDS = HotHistogram(
    "streamgauge_inter_chunk_seconds",
    "Between two writes to the same viewer; the model's pace is in it.",
    BACKEND,
    buckets=LATENCY_BUCKETS,
)
STREAM_SECONDS = Histogram(
    "streamgauge_stream_seconds",
    "From the POST to the terminal being stored.",
    ("backend", "outcome"),
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280),
)
BYTES_SENT = HotCounter("streamgauge_sent_bytes", "Bytes of SSE events written to viewers.", BACKEND)
EVENTS_REPLAYED = Counter(
    "streamgauge_events_replayed", "SSE events that were stored before their viewer came.", BACKEND
)
REPLAY_EVENTS = Histogram(
    "streamgauge_replay_events",
    "How many SSE events were stored already when a viewer came, of each who came so late.",
    BACKEND,
    buckets=tuple(4**step for step in range(8)),
)
CATCH_UPS = Counter(
    "streamgauge_catch_ups", "Times a slow viewer's box was full, so that it went back to reading the log."
)
DUPLICATE_APPENDS = Counter(
    "streamgauge_duplicate_appends", "Appends that the store had already: the reply before was lost.", BACKEND
)
FLAG_EVALUATIONS = Counter("streamgauge_flag_evaluations", "Backends chosen by the flag.", BACKEND)
FLAG_BROKEN = Gauge(
    "streamgauge_flag_broken", "1 while the newest flag document can't be used and the last good one holds, else 0."
)
FLAG_GENERATION = Gauge("streamgauge_flag_generation", "The flag document that this process follows; 0 is none.")
QUEUE_DEPTH = Gauge("streamgauge_queue_depth", "Messages in the broker that no worker has fetched, seen every 5 s.")
QUEUE_OLDEST_SECONDS = Gauge(
    "streamgauge_queue_oldest_seconds",
    "How long the oldest message has waited that no worker has fetched; 0 while none does.",
)
WORKER_SLOTS = Gauge("streamgauge_worker_slots", "Streams that this worker may answer at once.")
API_LOOP_LAG_SECONDS = Gauge("streamgauge_api_loop_lag_seconds", "How late the API's event loop runs.")
DATABASE_CONNECTIONS = Gauge("streamgauge_database_connections", "Connections of the pool that are in use.")
DATABASE_POOL_SIZE = Gauge("streamgauge_database_pool_size", "Connections that the pool may have.")
BUILD = Info("streamgauge_build", "The version that runs.")
BUILD.info({"version": version("streamgauge")})
