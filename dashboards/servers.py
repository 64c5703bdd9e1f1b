"""Valkey and PostgreSQL: what the servers themselves say, through redis_exporter and postgres_exporter.

The names are those of both exporters' newest versions and of Debian 12's (1.45 and 0.11), unless a comment says more.
"""

from dashboards.panels import (
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    PER_SECOND,
    SECONDS,
    SHARE,
    TALL,
    Board,
    Query,
    Section,
    lines,
    number,
)
from dashboards.promql import largest, rate, total

OURS = 'datname!~"template.|postgres"'
CPU = rate("redis_cpu_user_seconds_total", "instance"), rate("redis_cpu_sys_seconds_total", "instance")
PER_COMMAND = f"{rate('redis_commands_duration_seconds_total', 'cmd')} / {rate('redis_commands_total', 'cmd')}"
HITS = rate("pg_stat_database_blks_hit", where=OURS)
ROWS = ("inserted", "updated", "deleted", "fetched")
# redis_exporter 1.64 and later, of Valkey or Redis 7.4 and later.
OUTPUT_BUFFER_KILLS = "redis_client_output_buffer_limit_disconnections_total"

BOARD = Board(
    uid="streamgauge-servers",
    title="streamgauge / Valkey and PostgreSQL",
    description="What the servers themselves say, through redis_exporter and postgres_exporter.",
    leads_to="streamgauge-load",
    series="(redis|pg)_up",
    by_backend=False,
    sections=[
        Section(
            "Valkey",
            [
                number(
                    "Valkey answers",
                    "How many servers answer their exporter. With none, messages are refused, or go to polling.",
                    COUNT,
                    Query(total("redis_up"), "up"),
                    height=TALL,
                ),
                lines(
                    "Commands",
                    "Calls by command. An append is one `evalsha`; a viewer of `pubsub` who keeps up costs none.",
                    PER_SECOND,
                    Query(f"topk(8, {rate('redis_commands_total', 'cmd')})", "{{cmd}}"),
                    width=10,
                ),
                lines(
                    "Time per command",
                    "CPU of the server for one call. What grows here grows for everybody: one thread runs them all.",
                    SECONDS,
                    Query(f"topk(8, {PER_COMMAND})", "{{cmd}}"),
                    width=10,
                ),
                lines(
                    "Processor",
                    "Share of one core. Valkey runs commands in one thread: near 100 % everything waits.",
                    SHARE,
                    Query(" + ".join(CPU), "{{instance}}"),
                    width=8,
                ),
                lines(
                    "Memory",
                    "Used, and allowed where a limit is set. At the limit Valkey refuses to write, or evicts logs.",
                    BYTES,
                    Query(largest("redis_memory_used_bytes", "instance"), "used, {{instance}}"),
                    Query(f"{largest('redis_memory_max_bytes', 'instance')} > 0", "allowed, {{instance}}"),
                    width=8,
                ),
                lines(
                    "Keys",
                    "Streams are kept for their time to live; those that expire are most of them, or something leaks.",
                    COUNT,
                    Query(total("redis_db_keys"), "keys"),
                    Query(total("redis_db_keys_expiring"), "of which expire"),
                    width=8,
                ),
                lines(
                    "Expired and evicted",
                    "Expired is the usual end. Evicted is a log that was thrown away while somebody might want it.",
                    PER_SECOND,
                    Query(rate("redis_expired_keys_total"), "expired"),
                    Query(rate("redis_evicted_keys_total"), "evicted"),
                    width=8,
                ),
                lines(
                    "Network",
                    "Bytes read from clients, and written to them: each chunk goes to each API that has a viewer.",
                    BYTES_PER_SECOND,
                    Query(rate("redis_net_input_bytes_total", "instance"), "in, {{instance}}"),
                    Query(rate("redis_net_output_bytes_total", "instance"), "out, {{instance}}"),
                    width=8,
                ),
                lines(
                    "Clients",
                    "Connections, those that wait in a blocking command, and channels that somebody listens to.",
                    COUNT,
                    Query(total("redis_connected_clients"), "connected"),
                    Query(total("redis_blocked_clients"), "blocked"),
                    Query(total("redis_pubsub_channels"), "channels"),
                    width=8,
                ),
                lines(
                    "Longest output buffer",
                    "Of any client lately. A process that does not read makes it grow until Valkey cuts it off.",
                    BYTES,
                    Query(largest("redis_client_recent_max_output_buffer_bytes", "instance"), "{{instance}}"),
                ),
                lines(
                    "Cut off and refused",
                    "Clients cut off for a full output buffer (needs redis_exporter 1.64), and connections refused.",
                    PER_SECOND,
                    Query(rate(OUTPUT_BUFFER_KILLS), "cut off"),
                    Query(rate("redis_rejected_connections_total"), "refused"),
                ),
            ],
        ),
        Section(
            "PostgreSQL",
            [
                number(
                    "PostgreSQL answers",
                    "How many servers answer their exporter. With none, messages are refused.",
                    COUNT,
                    Query(total("pg_up"), "up"),
                    height=TALL,
                ),
                lines(
                    "Transactions",
                    "Committed and rolled back. A statement of its own is one too.",
                    PER_SECOND,
                    Query(rate("pg_stat_database_xact_commit", where=OURS), "committed"),
                    Query(rate("pg_stat_database_xact_rollback", where=OURS), "rolled back"),
                    width=10,
                ),
                lines(
                    "Rows",
                    "Inserted, updated, deleted, and fetched through an index: what `polling` and `notify` cost.",
                    PER_SECOND,
                    *(Query(rate(f"pg_stat_database_tup_{kind}", where=OURS), kind) for kind in ROWS),
                    width=10,
                ),
                lines(
                    "Connections",
                    "By state. Many active ones wait for locks or the disk; one idle in a transaction holds locks.",
                    COUNT,
                    Query(total("pg_stat_activity_count", "state", where=OURS), "{{state}}"),
                    width=8,
                ),
                lines(
                    "Connections in use",
                    "Of those that `max_connections` allows, over all databases.",
                    SHARE,
                    Query(
                        f"{total('pg_stat_database_numbackends')} / {total('pg_settings_max_connections')}", "in use"
                    ),
                    width=8,
                ),
                lines(
                    "Longest transaction",
                    "It keeps dead rows from being cleaned up: a table of chunks grows while one runs.",
                    SECONDS,
                    Query(largest("pg_stat_activity_max_tx_duration", "state", where=OURS), "{{state}}"),
                    width=8,
                ),
                lines(
                    "Found in memory",
                    "Share of blocks that were in PostgreSQL's own cache.",
                    SHARE,
                    Query(f"{HITS} / ({HITS} + {rate('pg_stat_database_blks_read', where=OURS)})", "hits"),
                    width=8,
                ),
                lines(
                    "Size",
                    "Of the database. Chunks go away by the scheduled clean-up, and their space is used again.",
                    BYTES,
                    Query(total("pg_database_size_bytes", "datname", where=OURS), "{{datname}}"),
                    width=8,
                ),
                lines(
                    "Deadlocks and spills",
                    "Deadlocks, and temporary files that a query wrote because it had too little memory.",
                    PER_SECOND,
                    Query(rate("pg_stat_database_deadlocks", where=OURS), "deadlocks"),
                    Query(rate("pg_stat_database_temp_files", where=OURS), "temporary files"),
                    width=8,
                ),
            ],
        ),
    ],
)
