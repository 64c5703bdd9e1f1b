"""The chunk store: what a server of its job needs besides, and the keys in it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from app.settings import Settings
from app.streaming import keys
from ops.doctor.connection import AWAY, connected, connected_to_store, store_nodes, unreachable
from ops.doctor.finding import Finding, Findings, error, warning, well
from ops.doctor.sentinels import examine_sentinels
from ops.doctor.server import examine_server

NAME, VARIABLE = "store", "REDIS_URL"
MOST_KEYS = 100_000
"""How many keys are looked at; a sample is enough to find a habit."""
PAGE = 1000
_LIVE = """
SELECT s.task_id FROM stream s JOIN message m ON m.id = s.message_id
WHERE s.backend IN ('pubsub', 'streams') AND m.status = 'pending'
  AND s.created_at BETWEEN now() - make_interval(secs => $1) AND now() - interval '5 seconds'
ORDER BY s.created_at DESC LIMIT 1000
"""


async def examine_store(settings: Settings) -> Findings:
    """Examine the server that REDIS_URL names, or each node of its cluster that owns slots; and the streams' keys."""
    try:
        async with connected(settings.redis_url) as client:
            await client.ping()
            yield well(f"{NAME}.connection", "answers")
            async for finding in examine_sentinels(NAME, settings.redis_url):
                yield finding
            yield await _cluster(settings, client)
            nodes = await store_nodes(settings)
    except AWAY as cause:
        yield unreachable(NAME, VARIABLE, cause)
        return
    for name, url in nodes.items():
        async for finding in _examine_node(name, url, settings):
            yield finding


async def _examine_node(name: str, url: str, settings: Settings) -> Findings:
    try:
        async with connected(url) as client:
            async for finding in examine_server(name, client):
                yield finding
            yield await _lifetimes(name, client, settings)
    except AWAY as cause:
        yield unreachable(name, VARIABLE, cause)


async def _cluster(settings: Settings, client: Any) -> Finding:
    check = f"{NAME}.cluster"
    is_one = bool((await client.info("cluster")).get("cluster_enabled"))
    if is_one != settings.store_cluster:
        answer, wanted = ("1", "true") if is_one else ("0", "false")
        return error(
            check,
            "is a cluster, and is used as a single server"
            if is_one
            else "is a single server, and is used as a cluster",
            f"cluster_enabled {answer}, STREAMGAUGE_STORE_CLUSTER {str(settings.store_cluster).lower()}",
            f"Set STREAMGAUGE_STORE_CLUSTER={wanted} for every process.",
        )
    if is_one and (state := await client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":
        return error(
            check,
            "some slots are served by nobody",
            f"cluster_state {state['cluster_state']}, cluster_slots_ok {state['cluster_slots_ok']}",
            "Bring the lost node back, or give its slots to another: CLUSTER SLOTS shows which.",
        )
    return well(check, "all slots are served" if is_one else "is a single server, as it is used")


async def _lifetimes(name: str, client: Any, settings: Settings) -> Finding:
    """Look for keys of streams that would stay for ever."""
    looked, eternal, cursor = 0, list[str](), 0
    while looked < MOST_KEYS:
        cursor, page = await client.scan(cursor, match="stream*", count=PAGE)
        lives = await _ttls(client, page)
        eternal += [key for key, ttl in zip(page, lives, strict=True) if ttl == -1]
        looked += len(page)
        if not cursor:
            break
    if eternal:
        return warning(
            f"{name}.ttl",
            f"{len(eternal)} of {looked} keys have no end to their life",
            f"TTL {eternal[0]} is -1",
            f"EXPIRE each {settings.chunk_ttl_s}, and find who wrote it: every write of ours sets one "
            "(a PERSIST by hand, a restored dump, another program).",
        )
    return well(f"{name}.ttl", f"each of {looked} keys has an end to its life")


async def _ttls(client: Any, page: Sequence[str]) -> list[int]:
    async with client.pipeline(transaction=False) as pipeline:
        for key in page:
            pipeline.ttl(key)
        return list(await pipeline.execute())


async def examine_live_keys(settings: Settings, database: asyncpg.Connection) -> Findings:
    """Hold the running streams that the database knows against the keys that the store has."""
    live = [row["task_id"] for row in await database.fetch(_LIVE, float(settings.chunk_ttl_s))]
    try:
        async with connected_to_store(settings) as client:
            yield await _gone(client, live)
    except AWAY:  # which `examine_store` has said
        return


async def _gone(client: Any, live: list[UUID]) -> Finding:
    names = [keys.meta_key(task_id) for task_id in live]
    gone = [name for name, ttl in zip(names, await _ttls(client, names), strict=True) if ttl == -2]
    if gone:
        return error(
            f"{NAME}.gone",
            f"{len(gone)} of {len(live)} running streams are not in the store any more",
            f"TTL {gone[0]} is -2",
            "The store was restarted, flushed or evicts, or APIs and workers name different ones: "
            "look at its uptime_in_seconds, evicted_keys and REDIS_URL of every process.",
        )
    return well(f"{NAME}.gone", f"each of {len(live)} running streams is in the store")


async def holds_chunks(settings: Settings, database: asyncpg.Connection, backend: str, task_id: UUID) -> bool:
    """Tell whether a chunk of this stream is stored where its backend keeps them; a store that is away shows none."""
    if backend not in {"pubsub", "streams"}:
        return bool(await database.fetchval("SELECT true FROM stream_chunk WHERE task_id = $1 LIMIT 1", task_id))
    name = keys.log_key(task_id) if backend == "streams" else keys.chunks_key(task_id)
    try:
        async with connected_to_store(settings) as client:
            return bool(await client.exists(name))
    except AWAY:
        return False
