"""PostgreSQL: its connections, its locks, our schema and its indexes."""

import contextlib
from pathlib import Path
from typing import Any

import asyncpg
from alembic.script import ScriptDirectory
from sqlmodel import SQLModel

import app.tables  # noqa: F401 - whose indexes are looked for
from app.database import UNPREPARED
from app.settings import Settings
from ops.doctor.finding import Finding, Findings, error, shortened, warning, well

PATIENCE_S = 5.0
MIGRATE = "Run `streamgauge migrate` with this DATABASE_URL."
FULL = 0.8
WAITS_S = 1.0
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_WAITING = """
SELECT pid, left(query, 60) AS query, pg_blocking_pids(pid) AS by,
       extract(epoch FROM now() - query_start)::float8 AS seconds
FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database() AND now() - query_start > make_interval(secs => $1)
ORDER BY query_start LIMIT 5
"""
_HOLDING = """
SELECT a.pid, l.relation::regclass::text AS name, left(a.query, 60) AS query,
       extract(epoch FROM now() - a.xact_start)::float8 AS seconds
FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class t ON t.oid = l.relation
WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND t.relkind = 'r' AND a.datname = current_database()
  AND t.relnamespace = current_schema()::regnamespace AND now() - a.xact_start > make_interval(secs => $1)
  AND a.wait_event_type IS DISTINCT FROM 'Lock'
ORDER BY a.xact_start LIMIT 1
"""
"""What no statement passes, not even one that only reads, by a holder who does not wait for another one in turn."""


def unreachable(cause: BaseException) -> Finding:
    """Say why the database does not serve us, and what to change."""
    check, evidence = "database.connection", shortened(cause)
    match cause:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return error(check, "refuses the password", evidence, "Correct user and password in DATABASE_URL.")
        case asyncpg.InvalidCatalogNameError():
            return error(check, "holds no database of this name", evidence, "Correct DATABASE_URL, or CREATE DATABASE.")
        case asyncpg.TooManyConnectionsError():
            return error(
                check,
                "has no connection left",
                evidence,
                "Lower STREAMGAUGE_DATABASE_POOL: times the processes it must stay below max_connections.",
            )
        case TimeoutError():
            fix = "Its process is stopped or overloaded, or a firewall drops packets: look at its process and its load."
            return error(check, f"gives no answer within {PATIENCE_S:g} s", evidence, fix)
        case _:
            return error(check, "can't be reached", evidence, "Start the server, or correct DATABASE_URL.")


def silent(cause: BaseException) -> Finding:
    """Say that the database let us in and then did not do what the doctor asked of it; what else there is, is found."""
    fix = "See what is said of its locks and of what it takes; mend that, and run the doctor again for the rest."
    return error("database.answers", "does not do what the doctor asks", shortened(cause), fix)


async def connect(settings: Settings) -> asyncpg.Connection:
    """Open one connection, which a pooler may serve as well. Raises one of `AWAY`."""
    return await asyncpg.connect(settings.database_url, timeout=PATIENCE_S, command_timeout=PATIENCE_S, **UNPREPARED)


async def let_go(connection: asyncpg.Connection) -> None:
    """Close a connection, which a server that stands still does not hold up."""
    with contextlib.suppress(*AWAY):
        await connection.close(timeout=PATIENCE_S)


async def examine_database(connection: asyncpg.Connection, settings: Settings, processes: int) -> Findings:
    """Examine the database of this connection, which `processes` processes of ours are known to share."""
    yield well("database.connection", f"answers: PostgreSQL {connection.get_server_version().major}")
    yield await _locks(connection)  # first, since what is asked next may wait for one
    schema = await _schema(connection)
    yield schema
    yield await _writable(connection)
    yield await _durable(connection)
    yield await _connections(connection, settings, processes)
    if schema.is_well:
        yield await _indexes(connection)


async def _schema(connection: asyncpg.Connection) -> Finding:
    is_made = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
    revision = await connection.fetchval("SELECT version_num FROM alembic_version") if is_made else None
    scripts = ScriptDirectory(str(Path(__file__).parents[1] / "migrations"))
    newest, check, evidence = scripts.get_current_head(), "database.schema", f"alembic_version: {revision or 'none'}"
    if revision is None:
        return error(check, "holds no tables of ours", evidence, MIGRATE)
    if revision not in {script.revision for script in scripts.walk_revisions()}:
        return error(check, f"schema {revision} is a newer streamgauge's", evidence, "Use that one to examine it.")
    if revision != newest:
        return error(check, f"schema is {revision} and not {newest} yet", evidence, MIGRATE)
    return well(check, f"schema is {revision}, the newest")


async def _writable(connection: asyncpg.Connection) -> Finding:
    if await connection.fetchval("SHOW transaction_read_only") == "on":
        is_replica = await connection.fetchval("SELECT pg_is_in_recovery()")
        return error(
            "database.writable",
            "takes no writes",
            "it is a replica" if is_replica else "default_transaction_read_only is on",
            "Name the primary in DATABASE_URL."
            if is_replica
            else "ALTER DATABASE … RESET default_transaction_read_only",
        )
    return well("database.writable", "takes writes")


async def _durable(connection: asyncpg.Connection) -> Finding:
    off = [name for name in DURABLE if await connection.fetchval(f"SHOW {name}") == "off"]
    if off:
        where = await connection.fetchval("SELECT source FROM pg_settings WHERE name = $1", off[0])
        of = where.upper() + " …" if where in {"database", "user"} else "SYSTEM"
        return warning(
            "database.durable",
            "may lose or corrupt committed answers when its machine fails",
            ", ".join(f"{name} off" for name in off),
            f"ALTER {of} RESET {off[0]}; SELECT pg_reload_conf()",
        )
    return well("database.durable", "a committed answer survives a power cut")


async def _connections(connection: asyncpg.Connection, settings: Settings, processes: int) -> Finding:
    check, most = "database.connections", int(await connection.fetchval("SHOW max_connections"))
    used = int(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
    wanted = processes * settings.database_pool
    evidence = (
        f"{used} of max_connections {most} in use; {processes} processes × pool {settings.database_pool} = {wanted}"
    )
    if used > FULL * most:
        return warning(check, "is short of connections", evidence, "Raise max_connections, or put a pooler before it.")
    if wanted > most and not settings.database_pooler:  # those pools are the pooler's to serve
        fix = (
            f"Set STREAMGAUGE_DATABASE_POOL to {max(1, most * 4 // 5 // processes)} at most, or raise max_connections."
        )
        return warning(check, "can't serve all pools when they are full", evidence, fix)
    return well(check, evidence)


async def _locks(connection: asyncpg.Connection) -> Finding:
    if holding := await connection.fetchrow(_HOLDING, WAITS_S):
        return error(
            "database.locks",
            f"the table {holding['name']} is locked: whatever reads or writes it waits",
            f"pid {holding['pid']} has held it for {holding['seconds']:.0f} s, last by {holding['query']!r}",
            f"See what that pid does in pg_stat_activity; SELECT pg_terminate_backend({holding['pid']}) ends it.",
        )
    if waiting := await connection.fetch(_WAITING, WAITS_S):
        first = waiting[0]
        return error(
            "database.locks",
            f"{len(waiting)} statements wait for a lock",
            f"{first['query']!r} waits {first['seconds']:.0f} s for pid {', '.join(map(str, first['by']))}",
            f"See what that pid does in pg_stat_activity; SELECT pg_terminate_backend({first['by'][0]}) ends it.",
        )
    return well("database.locks", "no statement waits for a lock")


async def _indexes(connection: asyncpg.Connection) -> Finding:
    wanted = _wanted_indexes()
    rows = await connection.fetch(
        "SELECT c.relname AS name, array_agg(a.attname::text ORDER BY k.place) AS columns, t.relname AS table "
        "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
        "CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(number, place) "
        "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number "
        "WHERE i.indisvalid AND t.relnamespace = current_schema()::regnamespace GROUP BY c.relname, t.relname"
    )
    there = {(row["table"], tuple(row["columns"])) for row in rows}
    if missing := sorted(wanted.keys() - there):
        return warning(
            "database.indexes",
            f"{len(missing)} indexes are missing or invalid: every look becomes a walk through the table",
            ", ".join(f"{table}({', '.join(columns)})" for table, columns in missing),
            " ".join(
                f"CREATE {wanted[table, columns]} CONCURRENTLY ON {table} ({', '.join(columns)});"
                for table, columns in missing
            ),
        )
    return well("database.indexes", f"all {len(wanted)} are there")


def _wanted_indexes() -> dict[tuple[str, tuple[str, ...]], str]:
    """Each index of the tables by what it is on, since its name may be anything, and as what it is made."""
    found = dict[tuple[str, tuple[str, ...]], str]()
    for table in SQLModel.metadata.sorted_tables:
        unique: list[Any] = [table.primary_key, *(index for index in table.indexes if index.unique)]
        unique += [each for each in table.constraints if each.__visit_name__ == "unique_constraint"]
        for made, groups in (("INDEX", table.indexes), ("UNIQUE INDEX", unique)):
            found |= {(table.name, tuple(column.name for column in group.columns)): made for group in groups}
    return found
