"""The sentinels before a server: whether they agree, and whether a failover could succeed."""

import asyncio
from collections import Counter
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.redis_pool import tls_options
from app.sentinel_url import Sentinels
from ops.doctor.connection import AWAY
from ops.doctor.finding import Findings, warning, well

ENOUGH = 3
"""Fewer sentinels have no majority once one of them is lost."""


async def examine_sentinels(name: str, url: str) -> Findings:
    """Ask each sentinel that a URL names, if it names any, who the master is."""
    sentinels = Sentinels.of(url)
    if sentinels is None:
        return
    asked = await asyncio.gather(*(_ask(sentinels, host, port) for host, port in sentinels.addresses))
    states = [state for state in asked if state]
    named = Counter(f"{state['ip']}:{state['port']}" for state in states).most_common(1)
    if not named:
        return  # the connection was made by one of them just now, and is what fails next
    (master, agreeing), known = named[0], max(int(state["num-other-sentinels"]) + 1 for state in states)
    replicas = max(int(state["num-slaves"]) for state in states)
    check = f"{name}.sentinels"
    said = f"{agreeing} of {len(asked)} sentinels say that {master} is the master"
    evidence = f"num-other-sentinels {known - 1}, num-slaves {replicas}"
    if agreeing < len(asked):
        fix = "Start those that are away or take them out of the URL; those that differ are cut off from the others."
        yield warning(check, said, evidence, fix)
    elif known < ENOUGH:
        fix = f"Run {ENOUGH}, each on a host of its own, with a quorum of 2."
        yield warning(check, f"{said}; {known} can't outvote the loss of one", evidence, fix)
    elif not replicas:
        yield warning(check, f"{said}; there is no replica to take over", evidence, f"Start one: REPLICAOF {master}.")
    else:
        yield well(check, f"{said}; {replicas} could take over")


async def _ask(sentinels: Sentinels, host: str, port: int) -> dict[str, Any] | None:
    options = sentinels.asking(tls_options(sentinels))
    async with redis.asyncio.Redis(host=host, port=port, retry=Retry(NoBackoff(), 0), **options) as client:
        try:
            masters: dict[str, dict[str, Any]] = await client.sentinel_masters()  # type: ignore[no-untyped-call]
        except AWAY:
            return None
        return masters.get(sentinels.master)
