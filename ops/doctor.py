"""`streamgauge doctor`: is all that messages need there and set up well, and does any message wait in vain?"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

import redis.asyncio
import typer
from alembic.script import ScriptDirectory
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from rich.console import Console
from rich.markup import escape

from app.broker import BrokerUnavailableError, Queue, make_celery
from app.database import Database, DatabaseUnavailableError
from app.flag_records import FlagRecords
from app.records import Records
from app.repair import Finding, Repair
from app.settings import Settings, load_settings
from app.streaming.backends import Backends, open_backends
from app.streaming.contract import StoreUnavailableError

FAILED = 1
NOBODY = UUID(int=0)
PING_S = 2.0
AWAY = (DatabaseUnavailableError, StoreUnavailableError, BrokerUnavailableError, OperationalError, RedisError, OSError)
MIGRATE = "Run `streamgauge migrate` with this DATABASE_URL."
IN_VAIN = {
    Finding.COMPLETE: "complete in their log and not in the database",
    Finding.LOST: "without a producer",
    Finding.GONE: "without a log",
    Finding.UNCLAIMED: "lost on their way to a worker",
}

commands = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


class _NotWellError(Exception):
    """A part answers, and is not as it should be; `fix` is what mends that, if it is not the part's usual one."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was examined; `fix` says what to do where it is not well."""

    name: str
    detail: str
    fix: str = ""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to do."""
        return not self.fix


@commands.command()
def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Mend the messages that wait in vain.")] = False,
) -> None:
    """Examine the system that DATABASE_URL, REDIS_URL and BROKER_URL name: exit code 1 unless all of it is well."""
    logging.getLogger("app.streaming").setLevel(logging.ERROR)  # what it would warn of is found and said below
    found = asyncio.run(examine(load_settings(), repair=repair))
    for each in found:
        mark = "[green]✓[/]" if each.is_well else "[bold red]✗[/]"
        console.print(f"  {mark} {each.name:<13}{escape(each.detail)}", soft_wrap=True)
        if not each.is_well:
            console.print(f"    → {escape(each.fix)}", soft_wrap=True)
    if not all(each.is_well for each in found):
        raise typer.Exit(FAILED)


async def examine(settings: Settings, *, repair: bool) -> list[Diagnosis]:
    """Examine each part, and the messages where all parts are well; with `repair`, mend those that wait in vain."""
    async with (
        Database.connect(settings.database_url, 2) as database,
        open_backends(settings, database) as backends,
        Queue.connect(settings.broker_url) as queue,
    ):
        records = Records(database)
        found = [
            await _examined("database", _database(database), "Check DATABASE_URL, and that its server runs."),
            await _examined("chunk store", _store(settings, backends), "Check REDIS_URL; see ops/valkey/valkey.conf."),
            await _examined("broker", _broker(queue), "Check BROKER_URL and the server."),
        ]
        servers_are_well = all(each.is_well for each in found)
        if found[-1].is_well:
            found.append(await _examined("workers", _workers(settings), "Start one: `celery -A app.worker worker`."))
        if servers_are_well:
            mending = Repair(settings, records, backends, queue)
            found.append(await _examined("messages", _messages(mending, repair=repair), "Run it with --repair."))
        return found


async def _examined(name: str, examination: Awaitable[str], fix: str) -> Diagnosis:
    try:
        return Diagnosis(name, await examination)
    except _NotWellError as error:
        return Diagnosis(name, str(error), error.fix or fix)
    except AWAY as error:
        return Diagnosis(name, str(error)[:300], fix)


async def _database(database: Database) -> str:
    async with database.driver() as connection:
        is_made = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
        revision = await connection.fetchval("SELECT version_num FROM alembic_version") if is_made else None
    _check_schema(revision)
    newest = await FlagRecords(database).newest(0)
    return f"answers; flag generation {newest[0]} is in force" if newest else "answers; no flag document is set"


def _check_schema(revision: str | None) -> None:
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    newest = scripts.get_current_head()
    if revision is None:
        raise _NotWellError("answers, and holds no tables of ours", MIGRATE)
    if revision not in {script.revision for script in scripts.walk_revisions()}:
        raise _NotWellError(f"answers; its schema {revision} is a newer streamgauge's", "Use that one to examine it.")
    if revision != newest:
        raise _NotWellError(f"answers; its schema is {revision} and not {newest} yet", MIGRATE)


async def _store(settings: Settings, backends: Backends) -> str:
    await backends.readers["pubsub"].status(NOBODY)
    async with redis.asyncio.from_url(settings.redis_url, decode_responses=True) as client:
        with contextlib.suppress(redis.ResponseError):  # a hosted server may not let its configuration be seen
            policy = (await client.config_get("maxmemory-policy"))["maxmemory-policy"]
            if policy != "noeviction":
                raise _NotWellError(f"maxmemory-policy is {policy}: a running stream's chunks may be evicted")
    return "answers, and evicts nothing"


async def _broker(queue: Queue) -> str:
    return f"answers; {await queue.depth()} tasks wait in it"


async def _workers(settings: Settings) -> str:
    names = await asyncio.to_thread(_answering, settings.broker_url)
    if not names:
        raise _NotWellError(f"none answers within {PING_S:g} s: new messages wait in the queue")
    return f"{len(names)} answered: {', '.join(names)}"


def _answering(broker_url: str) -> list[str]:
    """Ask all workers whether they take tasks, as `celery inspect ping` does; a paused one is as a dead one."""
    with make_celery(broker_url) as celery:
        return sorted(celery.control.inspect(timeout=PING_S).ping() or {})


async def _messages(mending: Repair, *, repair: bool) -> str:
    found = await (mending.run() if repair else mending.look())
    in_vain = ", ".join(f"{found[finding]} {words}" for finding, words in IN_VAIN.items() if found[finding])
    if in_vain and not repair:
        raise _NotWellError(f"waiting in vain: {in_vain}")
    return f"mended: {in_vain}" if in_vain else "none waits in vain"
