"""Alembic's entry: migrations run on one connection, under a lock, in one transaction."""

import asyncio
import contextlib
from functools import partial

import asyncpg
import sqlalchemy as sa
from alembic import context
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlmodel import SQLModel

from app import tables
from app.database import DRIVER, UNPREPARED, DatabaseUnavailableError, translated_errors
from app.settings import load_settings

MIGRATION_LOCK = 7_265_170
"""Any number will do; it must only be the same for everybody who migrates this database."""
CONNECT_S = 5
LOCK_MS = 30_000
"""Who waits for a table's lock holds up everybody who comes later: better to give up and try again."""

assert tables.Message.metadata is SQLModel.metadata


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata)
    with context.begin_transaction():
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.run_migrations()


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    with translated_errors():
        return await engine.connect()


async def _run() -> None:
    url = load_settings().database_url
    engine = create_async_engine(DRIVER, async_creator=partial(asyncpg.connect, url, timeout=CONNECT_S, **UNPREPARED))
    try:
        async with contextlib.aclosing(await _connected(engine)) as connection:
            await connection.run_sync(_migrate)
            await connection.commit()
    finally:
        await engine.dispose()


try:
    asyncio.run(_run())
except DatabaseUnavailableError as error:
    raise SystemExit(
        f"streamgauge: the database can't be reached: {error}. Check DATABASE_URL, and that its server runs."
    ) from None
except DBAPIError as error:
    raise SystemExit(
        f"streamgauge: the database refused the migration, and nothing was changed: {error.orig}. "
        "Let the user of DATABASE_URL own the tables, end what holds a lock on them, and run it again."
    ) from None
