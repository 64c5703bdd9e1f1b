"""A Valkey or Redis server, whatever it is used for: its memory, its limits, its role, its disk."""

from collections.abc import Iterator
from typing import Any

from redis.exceptions import ResponseError

from ops.doctor.finding import Finding, Findings, error, note, warning, well

OLDEST = (6, 0)
OLDEST_CLUSTER = (7, 0)
MEMORY_WARNING, MEMORY_ERROR = 0.80, 0.95
CLIENTS_WARNING = 0.80
PUBSUB_HARD, PUBSUB_SOFT = 256 << 20, 64 << 20
"""What ops/valkey/valkey.conf grants a subscription, and why."""
SLOW_US = 100_000
"""A command this slow stands in the way of every stream; the 10 ms that the log begins at a busy host meets as well."""
RECENT_S = 900
CONFIGURATION = (
    "maxmemory-policy client-output-buffer-limit timeout notify-keyspace-events "
    "slowlog-log-slower-than slowlog-max-len min-replicas-to-write"
)
KEPT = 1024
"""How many slow commands are worth their memory, which is some hundred bytes each."""


async def examine_server(name: str, client: Any) -> Findings:
    """Examine the server that `client` reaches, under the name of the job it has here."""
    info: dict[str, Any] = await client.info("everything")
    config = await _config(client)
    yield judge_version(name, info)
    yield _role(name, info)
    yield _eviction(name, info)
    yield _memory(name, info)
    yield _clients(name, info)
    yield _writes(name, info)
    if config is None:
        yield note(f"{name}.config", "does not show its configuration", "CONFIG GET is refused", "Ask its provider.")
        return
    for finding in _configured(name, config):
        yield finding
    if lacking := _lacking(name, int(config["min-replicas-to-write"]), info):
        yield lacking
    yield _slow(name, await client.slowlog_get(-1), int(config["slowlog-max-len"]), int((await client.time())[0]))


async def _config(client: Any) -> dict[str, str] | None:
    try:
        return dict(await client.config_get(*CONFIGURATION.split()))
    except ResponseError:  # a hosted server may keep it to itself
        return None


def judge_version(name: str, info: dict[str, Any]) -> Finding:
    """Tell whether a server is new enough."""
    found = str(info["redis_version"])
    shown = f"{info.get('server_name', 'redis')} {info.get('valkey_version', found)}"
    least = OLDEST_CLUSTER if info.get("cluster_enabled") else OLDEST
    if tuple(int(part) for part in found.split(".")[:2]) < least:
        return error(
            f"{name}.version",
            f"is too old: {shown}",
            f"redis_version {found}, needed {least[0]}.{least[1]}",
            "Upgrade to Valkey 8 or 9, or Redis 7.",
        )
    return well(f"{name}.version", shown)


def _role(name: str, info: dict[str, Any]) -> Finding:
    if info["role"] != "master":
        return error(
            f"{name}.role",
            "is a replica: it refuses every write",
            f"role {info['role']} of {info.get('master_host')}:{info.get('master_port')}",
            "Name the primary in the URL.",
        )
    return well(f"{name}.role", "is a primary")


def _eviction(name: str, info: dict[str, Any]) -> Finding:
    check, policy = f"{name}.eviction", str(info["maxmemory_policy"])
    if policy == "noeviction":
        return well(check, "evicts nothing")
    lost = "queued messages" if name == "broker" else "running streams' chunks"
    evidence = (
        f"maxmemory-policy {policy}, maxmemory {info.get('maxmemory_human', '?')}, evicted_keys {info['evicted_keys']}"
    )
    fix = "CONFIG SET maxmemory-policy noeviction, and in its file. (allkeys-lru is right for a cache; this is none.)"
    if not int(info.get("maxmemory", 0)):
        return warning(check, f"would evict {lost}, without a word, as soon as a maxmemory is set", evidence, fix)
    return error(check, f"would evict {lost} when memory is full, without a word", evidence, fix)


def _memory(name: str, info: dict[str, Any]) -> Finding:
    check, used, most = f"{name}.memory", int(info["used_memory"]), int(info.get("maxmemory", 0))
    total = most or int(info.get("total_system_memory", 0))
    share = used / total if total else 0.0
    limit = "maxmemory" if most else "the machine, as maxmemory is 0; a container's own limit is not seen"
    evidence = f"used_memory {used / 2**20:.1f} MiB of {total / 2**20:.1f} MiB ({limit})"
    fix = "Raise maxmemory, shorten STREAMGAUGE_CHUNK_TTL_S, or add shards (`streamgauge plan`)."
    if share > MEMORY_ERROR:
        refused = "are refused" if share >= 1 else "are about to be refused"
        return error(check, f"memory is full to {share:.0%}: appends {refused}", evidence, fix)
    if share > MEMORY_WARNING:
        return warning(check, f"memory is full to {share:.0%}", evidence, fix)
    return well(check, evidence)


def _clients(name: str, info: dict[str, Any]) -> Finding:
    used, most = int(info["connected_clients"]), int(info.get("maxclients", 0))
    evidence = f"connected_clients {used} of maxclients {most}"
    if most and used > CLIENTS_WARNING * most:
        return warning(f"{name}.clients", "is short of connections", evidence, "Raise maxclients and its ulimit -n.")
    return well(f"{name}.clients", evidence)


def _writes(name: str, info: dict[str, Any]) -> Finding:
    states = {key: info.get(key, "ok") for key in ("rdb_last_bgsave_status", "aof_last_write_status")}
    if bad := [key for key, state in states.items() if state != "ok"]:
        return error(
            f"{name}.disk",
            "can't write to its disk, and may refuse writes for that (MISCONF)",
            f"{', '.join(bad)}: err",
            'Make room or mend its folder; what needs no disk wants `save ""` as in ops/valkey/valkey.conf.',
        )
    return well(f"{name}.disk", "has no failed write to its disk")


def _configured(name: str, config: dict[str, str]) -> Iterator[Finding]:
    yield _output_buffer(name, config["client-output-buffer-limit"])
    if int(config["timeout"]):
        yield warning(
            f"{name}.timeout",
            "closes quiet connections, and a subscription may be quiet for minutes",
            f"timeout {config['timeout']}",
            "CONFIG SET timeout 0; dead peers are found by tcp-keepalive.",
        )
    if config["notify-keyspace-events"]:
        yield warning(
            f"{name}.keyspace-events",
            "announces every change of a key, which nobody here listens to",
            f"notify-keyspace-events {config['notify-keyspace-events']}",
            'CONFIG SET notify-keyspace-events ""',
        )
    keeping = {"slowlog-log-slower-than": (0, 10_000), "slowlog-max-len": (1, KEPT)}
    for setting, (least, good) in keeping.items():
        if int(config[setting]) < least:
            yield note(
                f"{name}.slowlog",
                "keeps no slow log: what holds all streams up for a moment leaves no trace",
                f"{setting} {config[setting]}",
                f"CONFIG SET {setting} {good}",
            )


def _lacking(name: str, wanted: int, info: dict[str, Any]) -> Finding | None:
    there = int(info.get("min_slaves_good_slaves", wanted))
    if there >= wanted:
        return None
    return error(
        f"{name}.replicas",
        "refuses every write for want of replicas (NOREPLICAS)",
        f"{there} replicas keep up, min-replicas-to-write {wanted}",
        "Bring the replica back; until then CONFIG SET min-replicas-to-write 0 takes writes that it alone has.",
    )


def _output_buffer(name: str, limits: str) -> Finding:
    check, words = f"{name}.output-buffer", limits.split()
    place = words.index("pubsub")
    hard, soft, seconds = (int(word) for word in words[place + 1 : place + 4])
    evidence = f"client-output-buffer-limit pubsub {hard} {soft} {seconds}"
    if (hard and hard < PUBSUB_HARD) or (soft and soft < PUBSUB_SOFT):
        return warning(
            check,
            "cuts off a subscription that falls behind early: it carries all streams of one API",
            evidence,
            'CONFIG SET client-output-buffer-limit "pubsub 256mb 64mb 60"',
        )
    return well(check, evidence)


def _slow(name: str, entries: list[dict[str, Any]], kept: int, now: int) -> Finding:
    slow = [entry for entry in entries if entry["duration"] >= SLOW_US and now - entry["start_time"] < RECENT_S]
    reach = now - entries[-1]["start_time"] if kept and len(entries) >= kept else RECENT_S
    if not slow and reach < RECENT_S:
        return note(
            f"{name}.slow",
            f"no command took {SLOW_US // 1000} ms in the last {reach} s, and before that is forgotten",
            f"SLOWLOG: {len(entries)} of {kept} entries, the oldest {reach} s ago",
            f"CONFIG SET slowlog-max-len {max(KEPT, 2 * kept)}; SLOWLOG GET shows what comes so often.",
        )
    if not slow:
        return well(f"{name}.slow", f"no command took {SLOW_US // 1000} ms in the last {RECENT_S // 60} minutes")
    worst = max(slow, key=lambda entry: int(entry["duration"]))
    command = worst["command"] if isinstance(worst["command"], str) else worst["command"].decode(errors="replace")
    return warning(
        f"{name}.slow",
        f"{len(slow)} commands took longer than {SLOW_US // 1000} ms, and every stream waited for them",
        f"SLOWLOG: {worst['duration'] / 1000:.0f} ms for {command[:80]}, {now - worst['start_time']} s ago",
        "Find who sends it (KEYS, a long script, a huge range) and stop that; SLOWLOG GET lists them.",
    )
