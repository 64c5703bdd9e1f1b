"""All checks in order: servers, schema, workers, processes, and last what needs all of them."""

import contextlib
from dataclasses import dataclass

import asyncpg
import httpx2

from app.settings import Settings
from ops.doctor import database as databases
from ops.doctor import flag
from ops.doctor.broker import examine_broker
from ops.doctor.canary import follow_canary
from ops.doctor.clocks import examine_api_clock, examine_database_clock, examine_store_clock
from ops.doctor.finding import Finding, Findings, note, warning
from ops.doctor.messages import examine_messages
from ops.doctor.model import examine_model, seen_by_workers
from ops.doctor.pooler import examine_pooler
from ops.doctor.processes import examine_page, examine_ready
from ops.doctor.proxy import examine_proxy
from ops.doctor.store import examine_live_keys, examine_store
from ops.doctor.versions import installed, judge
from ops.doctor.viewing import authorizing
from ops.doctor.workers import examine_workers

HTTP_S = 15.0
NO_API = note(
    "canary", "was not sent", "no --api", "Name an API, --api http://127.0.0.1:8000, and a message is followed through."
)
READ_ONLY = note(
    "canary",
    "was not sent",
    "the database takes no writes",
    "Mend that first: the doctor could not take its message away again.",
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is examined: the settings name the servers, and these name our processes."""

    settings: Settings
    apis: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    """Metrics URLs of workers."""
    through: str = ""
    """A proxy's URL for the first API."""
    repair: bool = False


async def examine(subject: Subject) -> list[Finding]:
    """Make every check that can be made."""
    settings = subject.settings
    found = [*judge("versions", installed()), *_agreeing(settings)]
    await _keep(found, examine_store(settings))
    await _keep(found, examine_broker(settings))
    found.append(await examine_model(settings))
    if _is_well(found, "broker.connection"):
        await _keep(found, examine_workers(settings))
    async with httpx2.AsyncClient(timeout=HTTP_S, auth=authorizing(settings)) as http:
        await _examine_apis_and_database(found, subject, http)
        for name, url in _pages(subject):
            await _keep(found, examine_page(http, name, url))
    if _is_well(found, "store.connection"):
        await _keep(found, examine_store_clock(settings))
    if any(finding.check.startswith("canary ") and finding.is_well for finding in found):
        return [seen_by_workers(finding) if finding.check == "model" else finding for finding in found]
    return found


async def _keep(found: list[Finding], findings: Findings) -> None:
    async for finding in findings:
        found.append(finding)  # noqa: PERF401 - what was found before an error stays


async def _examine_apis_and_database(found: list[Finding], subject: Subject, http: httpx2.AsyncClient) -> None:
    """Examine the database, then the APIs, which need it, then what needs both."""
    async with contextlib.AsyncExitStack() as opened:
        connection = None
        try:
            connection = await databases.connect(subject.settings)
            opened.push_async_callback(databases.let_go, connection)
            await _examine_database(found, subject, connection)
        except databases.AWAY as cause:
            found.append(databases.silent(cause) if connection else databases.unreachable(cause))
        for api in subject.apis:
            found.append(await examine_ready(http, api))
            await _keep(found, examine_api_clock(http, api))
        if connection is None or not all(_is_well(found, f"database.{check}") for check in ("schema", "answers")):
            return
        try:
            await _examine_ways(found, subject, http, connection)
        except databases.AWAY as cause:
            found.append(databases.silent(cause))


async def _examine_database(found: list[Finding], subject: Subject, connection: asyncpg.Connection) -> None:
    processes = len(subject.apis) + len(subject.workers)
    await _keep(found, databases.examine_database(connection, subject.settings, processes))
    found.append(await examine_pooler(connection, subject.settings))
    found.append(await examine_database_clock(connection))


async def _examine_ways(
    found: list[Finding], subject: Subject, http: httpx2.AsyncClient, connection: asyncpg.Connection
) -> None:
    """Examine the ways of messages, of the flag and of chunks, through everything."""
    settings = subject.settings
    generation, document = await flag.newest(connection)
    found.append(flag.judge_document(settings, generation, document))
    await _keep(found, examine_live_keys(settings, connection))
    if _is_well(found, "database.writable"):
        found += [await follow_canary(http, api, settings, connection) for api in subject.apis] or [NO_API]
        await _keep(found, flag.examine_followers(http, subject.apis, generation))
        if subject.through:
            await _keep(found, examine_proxy(http, subject.through, subject.apis[0], connection))
    elif subject.apis:
        found.append(READ_ONLY)  # it could not be taken away again
    if _is_well(found, "store.connection") and _is_well(found, "broker.connection"):
        await _keep(found, examine_messages(settings, repair=subject.repair))


def _is_well(found: list[Finding], check: str) -> bool:
    """Tell whether nothing was found by a check, also because there was none."""
    return all(finding.is_well for finding in found if finding.check == check)


def _pages(subject: Subject) -> list[tuple[str, str]]:
    apis = [(f"api {number}", f"{api}/metrics") for number, api in enumerate(subject.apis, 1)]
    return apis + [(f"worker {number}", url) for number, url in enumerate(subject.workers, 1)]


def _agreeing(settings: Settings) -> list[Finding]:
    """Settings that are right by themselves and not together."""
    if settings.lease_grace_s > settings.worker_visibility_s:
        return []
    return [
        warning(
            "settings",
            "a killed worker's stream is given up before another worker gets its message",
            f"STREAMGAUGE_LEASE_GRACE_S {settings.lease_grace_s:g}, "
            f"STREAMGAUGE_WORKER_VISIBILITY_S {settings.worker_visibility_s:g}",
            f"Set STREAMGAUGE_LEASE_GRACE_S above {3 * settings.worker_visibility_s:g}.",
        )
    ]
