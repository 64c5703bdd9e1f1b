"""Faults of APIs and of the way to them, planted on a whole system and found with their fix."""

import asyncio
import json
import re
from pathlib import Path
from time import time_ns

import asyncpg
import httpx2
import pytest

from app.settings import Settings
from app.streaming.flag_document import document_for
from ops.doctor.canary import follow_canary
from ops.doctor.clocks import examine_api_clock
from ops.doctor.finding import Finding
from ops.doctor.flag import examine_followers
from ops.doctor.processes import examine_page, examine_ready
from ops.doctor.proxy import examine_proxy
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.ops.doctor.findings import only, troubles
from tests.ops.doctor.planted import NOWHERE
from tests.support.faulty_http import answering, buffering_proxy
from tests.support.lagging_api import lagging_api
from tests.support.serving import serving
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
ROUNDED_MS = 0.2
"""By how much two figures of one decimal may be off, together."""


async def test_an_api_with_another_store_than_the_workers(
    stack: Stack, http: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """Both are well by themselves, and each stream has to be moved, before or after its viewer has come."""
    settings = settings_of(stack, broker_url=stack.broker_url, redis_url=stack.broker_url)
    async with serving(settings) as client:
        found = await follow_canary(http, str(client.http.base_url).rstrip("/"), settings, database)
    assert found.finding == "was handed over: it began in pubsub and went on in polling"
    assert "REDIS_URL" in found.fix


async def test_an_api_that_lacks_its_store(stack: Stack, http: httpx2.AsyncClient) -> None:
    """It serves on by `polling`, and says so."""
    async with serving(settings_of(stack, broker_url=stack.broker_url, redis_url=NOWHERE)) as client:
        url = str(client.http.base_url).rstrip("/")
        finding = await examine_ready(http, url)
        found = await troubles(examine_page(http, "api 1", f"{url}/metrics"))
    assert "store" in finding.evidence
    only(found, "api 1 store", "streamgauge_store_away 1", "REDIS_URL")


async def test_addresses_that_lead_elsewhere(stack: Stack, http: httpx2.AsyncClient) -> None:
    """Nothing listens, or something else does."""
    nothing = await examine_ready(http, "http://127.0.0.1:1")
    other = await examine_ready(http, stack.openai_base_url)
    assert "--api" in nothing.fix
    assert other.finding == "is none of our APIs"


async def test_two_apis_that_follow_different_flags(
    stack: Stack, settings: Settings, http: httpx2.AsyncClient, database_url: str
) -> None:
    """One of them reads another database, where another document is in force."""
    other = await asyncpg.connect(database_url)
    document = json.dumps(document_for("polling", ("polling", "pubsub")))
    await other.execute("INSERT INTO flag_document (document, created_at) VALUES ($1, now())", document)
    try:
        async with serving(settings.model_copy(update={"database_url": database_url})) as client:
            await client.post()
            url = str(client.http.base_url).rstrip("/")
            found = await troubles(examine_followers(http, (stack.api_url, url), 0))
    finally:
        await other.execute("DELETE FROM flag_document")
        await other.execute("DELETE FROM conversation")
        await other.close()
    only(found, "api 2 flag", f"at {url}", "DATABASE_URL")


async def test_an_api_whose_clock_is_off(http: httpx2.AsyncClient) -> None:
    """By two seconds, within the bound that the evidence states: the time that the question takes."""

    def late(_path: str) -> tuple[int, object]:
        now = time_ns() + 2_000_000_000
        return 200, {"received_ns": now, "sent_ns": now}

    async with answering(late) as url:
        found = await troubles(examine_api_clock(http, url))
    only(found, f"clock of {url}", "+", "chrony")
    offset_ms, bound_ms = map(float, re.findall(r"[\d.]+", found[f"clock of {url}"].evidence))
    assert abs(offset_ms - 2000) <= bound_ms + ROUNDED_MS


async def test_an_api_whose_loop_is_blocked(settings: Settings, http: httpx2.AsyncClient) -> None:
    """Somebody calls what does not await."""
    found: dict[str, Finding] = {}
    with lagging_api(settings) as url:

        async def is_found() -> bool:
            found.update(await troubles(examine_page(http, "api 1", f"{url}/metrics")))
            return bool(found)

        await until_awaited(is_found, "it is found")
    only(found, "api 1 loop", "looks", "py-spy")


async def test_a_full_pool(settings: Settings, http: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """One connection, and a request that waits for a lock with it."""
    found: dict[str, Finding] = {}
    async with serving(settings.model_copy(update={"database_pool": 1})) as client:
        url = str(client.http.base_url).rstrip("/")

        async def is_found() -> bool:
            found.update(await troubles(examine_page(http, "api 1", f"{url}/metrics")))
            return bool(found)

        await database.execute("BEGIN; LOCK TABLE conversation")
        waiting = asyncio.create_task(client.http.post("/conversations", json={}))
        await until_awaited(is_found, "it is found")
        await database.execute("ROLLBACK")
        assert (await waiting).status_code == 201
    await database.execute("DELETE FROM conversation")
    only(found, "api 1 pool", "1 of 1", "STREAMGAUGE_DATABASE_POOL")


async def test_a_proxy_that_buffers(stack: Stack, http: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """It is found by when chunks come through it; one that leads elsewhere is told apart."""
    async with buffering_proxy(stack.api_url) as proxy:
        found = await troubles(examine_proxy(http, proxy, stack.api_url, database))
        only(found, f"proxy {proxy}", "later than directly", "proxy_buffering off")
    configuration = (Path(__file__).parents[3] / "ops/nginx/streams.conf").read_text()
    advised = found[f"proxy {proxy}"].fix.removeprefix("nginx: ").partition(" (")[0].split("; ")
    assert [f"{directive};" in configuration for directive in advised] == [True] * 4
    lost = await troubles(examine_proxy(http, stack.openai_base_url, stack.api_url, database))
    assert next(iter(lost.values())).finding == "leads to no stream"
