"""Faults of PostgreSQL, of the schema and of the flag's document, planted on a real server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from app.database import Database
from app.records import Records
from app.settings import Settings
from app.streaming.flag_document import Rules, document_for, document_of
from ops.doctor import database as databases
from ops.doctor.database import examine_database
from ops.doctor.flag import judge_document
from ops.doctor.store import examine_live_keys
from tests.ops.doctor.findings import by_check, only, troubles
from tests.support.database import migrated_postgres
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database of this module's own, since its server gets hurt."""
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@pytest.fixture
async def connection(url: str) -> AsyncIterator[asyncpg.Connection]:
    """To plant faults by, and to examine through."""
    opened = await asyncpg.connect(url)
    yield opened
    await opened.close()


async def found_by(connection: asyncpg.Connection, settings: Settings | None = None, processes: int = 2) -> Any:
    return await troubles(examine_database(connection, settings or Settings(), processes))


async def refusal(url: str) -> Any:
    """What the doctor says of a database that it can't connect to."""
    with pytest.raises(databases.AWAY) as caught:
        await databases.connect(Settings(database_url=url))
    return by_check([databases.unreachable(caught.value)])


async def test_a_healthy_database_has_nothing_to_report(connection: asyncpg.Connection) -> None:
    """As the migrations make it."""
    assert await found_by(connection) == {}


async def test_nothing_listens(url: str) -> None:
    """The address, or the server."""
    port = str(urlsplit(url).port)
    only(await refusal(url.replace(f":{port}/", ":1/")), "database.connection", "", "correct DATABASE_URL")


async def test_the_password_is_wrong(url: str) -> None:
    """It is told apart from a server that is away."""
    only(await refusal(url.replace("@", "x@")), "database.connection", "password", "password in DATABASE_URL")


async def test_the_database_does_not_exist(url: str) -> None:
    """Nor is it made by accident."""
    only(await refusal(f"{url}x"), "database.connection", "does not exist", "CREATE DATABASE")


async def test_no_connection_is_left(url: str, connection: asyncpg.Connection) -> None:
    """For this role, as for a server whose max_connections is reached."""
    await connection.execute("CREATE ROLE crowded LOGIN PASSWORD 'x' CONNECTION LIMIT 0")
    try:
        found = await refusal(f"postgresql://crowded:x@{url.rpartition('@')[2]}")
    finally:
        await connection.execute("DROP ROLE crowded")
    only(found, "database.connection", "too many connections", "STREAMGAUGE_DATABASE_POOL")


@pytest.mark.parametrize(
    ("revision", "evidence", "fix"),
    [(None, "none", "streamgauge migrate"), ("0001", "0001", "streamgauge migrate"), ("9999", "9999", "Use that one")],
)
async def test_a_schema_that_is_not_ours(
    url: str, connection: asyncpg.Connection, revision: str | None, evidence: str, fix: str
) -> None:
    """Missing, old and newer are three things."""
    async with other_database(url, connection) as other:
        if revision is not None:
            await other.execute("CREATE TABLE alembic_version (version_num text)")
            await other.execute("INSERT INTO alembic_version VALUES ($1)", revision)
        only(await found_by(other), "database.schema", evidence, fix)


@contextlib.asynccontextmanager
async def other_database(url: str, connection: asyncpg.Connection) -> AsyncIterator[asyncpg.Connection]:
    """An empty one beside ours for the length of the block."""
    await connection.execute("CREATE DATABASE other")
    other = await asyncpg.connect(url.rpartition("/")[0] + "/other")
    try:
        yield other
    finally:
        await other.close()
        await connection.execute("DROP DATABASE other WITH (FORCE)")


async def test_an_index_is_missing(connection: asyncpg.Connection) -> None:
    """One that a migration made and a hand has dropped; here it comes back with the transaction's end."""
    dropping = connection.transaction()
    await dropping.start()
    await connection.execute("DROP INDEX ix_message_conversation_id")
    found = await found_by(connection)
    await dropping.rollback()
    only(
        found, "database.indexes", "message(conversation_id)", "CREATE INDEX CONCURRENTLY ON message (conversation_id)"
    )


async def test_several_indexes_are_missing(connection: asyncpg.Connection) -> None:
    """The fix makes all of them, and the unique ones unique."""
    dropping = connection.transaction()
    await dropping.start()
    await connection.execute("DROP INDEX ix_message_conversation_id")
    await connection.execute("ALTER TABLE message DROP CONSTRAINT message_task_id_key")
    (finding,) = (await found_by(connection)).values()
    assert finding.finding.startswith("2 indexes")
    await dropping.rollback()
    assert finding.fix.split("; ") == [
        "CREATE INDEX CONCURRENTLY ON message (conversation_id)",
        "CREATE UNIQUE INDEX CONCURRENTLY ON message (task_id);",
    ]


async def test_the_database_takes_no_writes(connection: asyncpg.Connection) -> None:
    """As a replica, or by a setting that was made for another purpose."""
    await connection.execute("SET default_transaction_read_only = on")
    only(await found_by(connection), "database.writable", "default_transaction_read_only", "RESET")


async def test_commits_do_not_reach_the_disk(connection: asyncpg.Connection) -> None:
    """Somebody made a benchmark look better."""
    await connection.execute("ALTER SYSTEM SET fsync = off")
    await reloaded(connection, "off")
    try:
        found = await found_by(connection)
    finally:
        await connection.execute("ALTER SYSTEM RESET fsync")
        await reloaded(connection, "on")
    only(found, "database.durable", "fsync off", "ALTER SYSTEM RESET fsync")


async def test_commits_are_not_waited_for(url: str, connection: asyncpg.Connection) -> None:
    """For one database; the fix is of the place where it was set."""
    name = urlsplit(url).path[1:]
    await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    other = await asyncpg.connect(url)
    try:
        found = await found_by(other)
    finally:
        await other.close()
        await connection.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
    only(found, "database.durable", "synchronous_commit off", "ALTER DATABASE … RESET synchronous_commit")


async def reloaded(connection: asyncpg.Connection, wanted: str) -> None:
    async def is_so() -> bool:
        return bool(await connection.fetchval("SHOW fsync") == wanted)

    await connection.execute("SELECT pg_reload_conf()")
    await until_awaited(is_so, "the configuration is read again")


async def test_the_pools_are_larger_than_the_server(connection: asyncpg.Connection) -> None:
    """It shows only when all of them are full."""
    found = await found_by(connection, Settings(database_pool=60), processes=4)
    only(found, "database.connections", "4 processes × pool 60 = 240", "STREAMGAUGE_DATABASE_POOL to 40")


async def test_a_statement_waits_for_a_lock(url: str, connection: asyncpg.Connection) -> None:
    """And by whom it is kept waiting."""
    holder = await asyncpg.connect(url)
    try:
        await holder.execute("BEGIN; LOCK TABLE conversation IN EXCLUSIVE MODE")  # which leaves the table to readers
        locking = asyncio.create_task(waiting_for_rows(url))

        async def waits() -> bool:
            return bool(await found_by(connection))

        await until_awaited(waits, "a statement waits for more than a second")
        only(
            await found_by(connection), "database.locks", f"s for pid {holder.get_server_pid()}", "pg_terminate_backend"
        )
        await holder.execute("ROLLBACK")
        await locking
    finally:
        await holder.close()


async def test_who_holds_a_table_and_waits_is_not_the_one_to_end(url: str, connection: asyncpg.Connection) -> None:
    """But whom he waits for: as of a migration that has one table and can't have the next."""
    first, second = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        await first.execute("BEGIN; LOCK TABLE message IN EXCLUSIVE MODE")
        await second.execute("BEGIN; LOCK TABLE conversation")
        locking = asyncio.create_task(second.execute("LOCK TABLE message"))

        async def waits() -> bool:
            return bool(await found_by(connection))

        await until_awaited(waits, "it has waited for more than a second")
        only(await found_by(connection), "database.locks", f"for pid {first.get_server_pid()}", "pg_terminate_backend")
        await first.execute("ROLLBACK")
        await locking
        await second.execute("ROLLBACK")
    finally:
        await first.close()
        await second.close()


async def waiting_for_rows(url: str) -> None:
    waiter = await asyncpg.connect(url)
    await waiter.fetch("SELECT FROM conversation FOR UPDATE")
    await waiter.close()


async def test_a_running_stream_whose_keys_are_gone(url: str, connection: asyncpg.Connection) -> None:
    """The store was flushed, restarted, or is another one than the producers use."""
    with running_valkey() as store:
        settings = Settings(database_url=url, redis_url=store.url)
        async with Database.connect(url, 1) as database:
            records = Records(database)
            conversation = await records.add_conversation(None)
            posted = await records.post(conversation.id, "hello", "scripted", None, "pubsub", 60)
        assert posted is not None
        await connection.execute("UPDATE stream SET created_at = now() - interval '1 minute'")
        found = await troubles(examine_live_keys(settings, connection))
        await connection.execute("DELETE FROM conversation")
        assert await troubles(examine_live_keys(settings, connection)) == {}
    only(found, "store.gone", f"{posted.task_id}}}:meta is -2", "uptime_in_seconds")


GOOD = document_for("polling", ("polling", "pubsub"))
UNKNOWN = document_for("carrier-pigeon", ("polling", "carrier-pigeon"))


@pytest.mark.parametrize(
    ("document", "evidence"),
    [({"flags": {}}, "stream-backend"), ({"flags": 7}, ""), (UNKNOWN, "carrier-pigeon")],
    ids=["no flag", "no document", "unknown backend"],
)
def test_a_flag_document_that_can_not_be_followed(document: dict[str, Any], evidence: str) -> None:
    """APIs go on by what they knew, or by the default, and nobody would notice."""
    finding = judge_document(Settings(), 3, document)
    assert "generation 3" in finding.finding
    only(by_check([finding]), "flag.document", evidence, "streamgauge flag set")


def test_a_target_that_is_not_to_be_had_is_taken_away_first() -> None:
    """It would stay when the flag is set, and the command would refuse that."""
    rules = Rules("pubsub", users={"ann": "notify", "bob": "notify", "o'hara": "streams"})
    (finding,) = by_check(
        [
            judge_document(
                Settings(database_pooler=True), 3, document_of(rules, ("polling", "pubsub", "notify", "streams"))
            )
        ]
    ).values()
    assert finding.fix.startswith("`streamgauge flag target ann none` and so for 1 more. Set it anew")


def test_flag_documents_that_are_well() -> None:
    """None, one of our own, and one that a rollback has switched off."""
    assert judge_document(Settings(), 0, None).is_well
    assert judge_document(Settings(), 1, GOOD).is_well
    off = {"flags": {name: {**flag, "state": "DISABLED"} for name, flag in GOOD["flags"].items()}}
    assert judge_document(Settings(), 2, off).is_well
