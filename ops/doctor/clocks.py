"""Clocks: every one against this machine's, as NTP does it. Latencies, leases and clean-ups compare times of two."""

import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from time import time
from typing import Any

import asyncpg
import httpx2

from app.settings import Settings
from ops.doctor.connection import AWAY, connected, store_nodes
from ops.doctor.finding import Finding, Findings, error, warning, well

SAMPLES = 5
LATE_S, WRONG_S = 0.05, 1.0


async def examine_api_clock(http: httpx2.AsyncClient, api: str) -> Findings:
    """Compare an API's; one that can't be reached is not this check's matter."""

    async def ask() -> float:
        told = (await http.get(f"{api}/clock")).json()
        return float(told["received_ns"] + told["sent_ns"]) / 2e9

    try:
        yield await examine_clock(f"of {api}", ask)
    except (httpx2.HTTPError, OSError, ValueError, KeyError, TypeError):
        return


async def examine_store_clock(settings: Settings) -> Findings:
    """Compare the store's, which leases go by; of a cluster, each node's. One that is away has been named before."""
    with contextlib.suppress(*AWAY):
        for name, url in (await store_nodes(settings)).items():
            with contextlib.suppress(*AWAY):
                async with connected(url) as client:
                    yield await examine_clock(f"of the {name}", partial(_store_time, client))


async def _store_time(client: Any) -> float:
    seconds, micros = await client.time()
    return float(seconds) + float(micros) / 1e6


async def examine_database_clock(connection: asyncpg.Connection) -> Finding:
    """Compare the database's, which clean-ups go by."""

    async def ask() -> float:
        return float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))

    return await examine_clock("of the database", ask)


async def examine_clock(name: str, ask: Callable[[], Awaitable[float]]) -> Finding:
    """Compare a clock: `ask` gives its seconds since 1970 from somewhere between the question and its answer."""
    best = (float("inf"), 0.0)
    for _ in range(SAMPLES):
        asked = time()
        told = await ask()
        answered = time()
        best = min(best, ((answered - asked) / 2, told - (asked + answered) / 2))
    return judge_offset(f"clock {name}", *reversed(best))


def judge_offset(check: str, offset_s: float, uncertain_s: float) -> Finding:
    """Judge how far a clock is off by what is certain of it."""
    certain = max(0.0, abs(offset_s) - uncertain_s)
    shown = f"{offset_s * 1000:+.1f} ms, ± {uncertain_s * 1000:.1f} ms"
    fix = "Run chrony or systemd-timesyncd on every host, and look why it does not hold this one."
    if certain > WRONG_S:
        return error(check, "is wrong: leases and latencies that span hosts are too", shown, fix)
    if certain > LATE_S:
        return warning(check, "is off: latencies that span hosts are too", shown, fix)
    return well(check, f"agrees with this machine's: {shown}")
