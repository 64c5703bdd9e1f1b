"""Alembic's entry: migrations run on one connection, under a lock, in one transaction."""

import asyncio

import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

from app import tables
from app.settings import load_settings

MIGRATION_LOCK = 7_265_170
"""Any number will do; it must only be the same for everybody who migrates this database."""

assert tables.Message.metadata is SQLModel.metadata


def _migrate(connection: sa.Connection) -> None:
    context.configure(connection=connection, target_metadata=SQLModel.metadata)
    with context.begin_transaction():
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.run_migrations()


async def _run() -> None:
    url = load_settings().database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(_run())
