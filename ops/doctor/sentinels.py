"""The sentinels before a server: whether they agree, and whether a failover could succeed."""

import asyncio
from collections import Counter
from typing import Any, NamedTuple

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.redis_pool import tls_options
from app.sentinel_url import Sentinels
from ops.doctor.connection import AWAY
from ops.doctor.finding import Findings, warning, well

ENOUGH = 3
"""Fewer sentinels have no majority once one of them is lost."""


class Said(NamedTuple):
    """What one sentinel knows."""

    master: str
    sentinels: int
    replicas: int
    """That could take over now."""


async def examine_sentinels(name: str, url: str) -> Findings:
    """Ask each sentinel that a URL names, if it names any, who the master is."""
    sentinels = Sentinels.of(url)
    if sentinels is None:
        return
    asked = await asyncio.gather(*(_ask(sentinels, host, port) for host, port in sentinels.addresses))
    said_by = [one for one in asked if one]
    named = Counter(one.master for one in said_by).most_common(1)
    if not named:
        return  # the connection was made by one of them just now, and is what fails next
    master, agreeing = named[0]
    known, replicas = max(one.sentinels for one in said_by), max(one.replicas for one in said_by)
    check = f"{name}.sentinels"
    said = f"{agreeing} of {len(asked)} sentinels say that {master} is the master"
    evidence = f"sentinels that know each other: {known}; replicas that are up: {replicas}"
    if agreeing < len(asked):
        fix = "Start those that are away or take them out of the URL; those that differ are cut off from the others."
        yield warning(check, said, evidence, fix)
    elif known < ENOUGH:
        fix = f"Run {ENOUGH}, each on a host of its own, with a quorum of 2."
        yield warning(check, f"{said}; {known} can't outvote the loss of one", evidence, fix)
    elif not replicas:
        fix = "Start one by `replicaof` of that address, or bring the one that is down back."
        yield warning(check, f"{said}; there is no replica to take over", evidence, fix)
    else:
        yield well(check, f"{said}; {replicas} could take over")


async def _ask(sentinels: Sentinels, host: str, port: int) -> Said | None:
    options = sentinels.asking(tls_options(sentinels))
    async with redis.asyncio.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), **options) as client:
        try:
            state: Any = (await client.sentinel_masters()).get(sentinels.master)  # type: ignore[no-untyped-call]
            replicas: Any = await client.sentinel_slaves(sentinels.master) if state else []  # type: ignore[no-untyped-call]
        except AWAY:
            return None
    if state is None:
        return None
    up = [replica for replica in replicas if not (replica["is_sdown"] or replica["is_disconnected"])]
    return Said(f"{state['ip']}:{state['port']}", int(state["num-other-sentinels"]) + 1, len(up))
