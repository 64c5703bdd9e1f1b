"""All checks in order: servers, schema, workers, processes, and last what needs all of them."""

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
    away = {finding.check for finding in found if finding.check.endswith(".connection") and not finding.is_well}
    found.append(await examine_model(settings))
    if "broker.connection" not in away:
        await _keep(found, examine_workers(settings))
    async with httpx2.AsyncClient(timeout=HTTP_S, auth=authorizing(settings)) as http:
        for api in subject.apis:
            found.append(await examine_ready(http, api))
            await _keep(found, examine_api_clock(http, api))
        try:
            connection = await databases.connect(settings)
        except databases.AWAY as cause:
            found.append(databases.unreachable(cause))
        else:
            try:
                await _examine_with_database(found, subject, http, connection)
                if not away and _has_schema(found):
                    await _keep(found, examine_messages(settings, repair=subject.repair))
            finally:
                await connection.close()
        for kind, number, url in _pages(subject):
            await _keep(found, examine_page(http, f"{kind} {number}", url))
    if "store.connection" not in away:
        await _keep(found, examine_store_clock(settings))
    if any(finding.check.startswith("canary ") and finding.is_well for finding in found):
        return [seen_by_workers(finding) if finding.check == "model" else finding for finding in found]
    return found


async def _keep(found: list[Finding], findings: Findings) -> None:
    found += [finding async for finding in findings]


async def _examine_with_database(
    found: list[Finding], subject: Subject, http: httpx2.AsyncClient, connection: asyncpg.Connection
) -> None:
    settings = subject.settings
    await _keep(found, databases.examine_database(connection, settings, len(subject.apis) + len(subject.workers)))
    found.append(await examine_pooler(connection, settings))
    found.append(await examine_database_clock(connection))
    if not _has_schema(found):
        return
    generation, document = await flag.newest(connection)
    found.append(flag.judge_document(settings, generation, document))
    await _keep(found, examine_live_keys(settings, connection))
    found += [await follow_canary(http, api, settings, connection) for api in subject.apis] or [NO_API]
    await _keep(found, flag.examine_followers(http, subject.apis, generation))
    if subject.through:
        await _keep(found, examine_proxy(http, subject.through, subject.apis[0], connection))


def _has_schema(found: list[Finding]) -> bool:
    return all(finding.is_well for finding in found if finding.check == "database.schema")


def _pages(subject: Subject) -> list[tuple[str, int, str]]:
    apis = [("api", number, f"{api}/metrics") for number, api in enumerate(subject.apis, 1)]
    return apis + [("worker", number, url) for number, url in enumerate(subject.workers, 1)]


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
