"""The schema: made by migrations alone, equal to the tables, and kind to the rows it finds."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ops.app_commands import ROOT
from ops.postgres_server import PostgresServer
from tests.support.database import migrated_postgres


def alembic(server: PostgresServer, *arguments: str) -> None:
    command = [sys.executable, "-m", "alembic", "-c", "ops/alembic.ini", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"DATABASE_URL": server.url}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgresServer]:
    """One whose schema is the newest."""
    with migrated_postgres(tmp_path) as postgres:
        yield postgres


def test_the_migrations_make_the_tables(server: PostgresServer) -> None:
    """No column of `app.tables` lacks its migration."""
    alembic(server, "check")


def test_messages_that_failed_before_it_was_kept_get_a_code(server: PostgresServer) -> None:
    """Lost producers left no timings; every other failure is ours."""

    async def failed() -> list[tuple[str | bool | None, ...]]:
        connection = await asyncpg.connect(server.url)
        try:
            await connection.execute("""
                INSERT INTO conversation VALUES (gen_random_uuid(), NULL, now());
                INSERT INTO message (id, conversation_id, role, content, status, timings, created_at)
                SELECT gen_random_uuid(), id, 'assistant', '', status, timings::jsonb, now() FROM conversation,
                       (VALUES ('failed', NULL), ('failed', '{"posted_ns": 1}'), ('complete', '{}'))
                       AS old (status, timings)
            """)
            alembic(server, "upgrade", "head")
            rows = await connection.fetch("SELECT status, code, retryable FROM message ORDER BY seq")
            return [tuple(row) for row in rows]
        finally:
            await connection.close()

    alembic(server, "downgrade", "0001")
    assert asyncio.run(failed()) == [
        ("failed", "producer_lost", True),
        ("failed", "internal", True),
        ("complete", None, None),
    ]
