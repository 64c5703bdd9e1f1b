"""The schema: made by migrations alone, equal to the tables, and kind to the rows it finds."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ops.app_commands import ROOT
from ops.postgres_server import PostgresServer
from tests.ops.test_cli import streamgauge
from tests.support.database import migrated_postgres


def alembic(server: PostgresServer, *arguments: str) -> None:
    command = [sys.executable, "-m", "alembic", "-c", "ops/alembic.ini", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"DATABASE_URL": server.url}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One whose schema is the newest; each test leaves it so."""
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as postgres:
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


def test_a_database_that_refuses_is_one_line(tmp_path: Path) -> None:
    """It says what to check, and shows no password."""
    refused = streamgauge("migrate", folder=tmp_path, DATABASE_URL="postgresql://x:secret@127.0.0.1:1/y")
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "Connect call failed ('127.0.0.1', 1). Check DATABASE_URL" in refused.stderr
    assert "secret" not in refused.stderr


def test_a_database_that_is_silent_is_given_up(tmp_path: Path) -> None:
    """What takes the connection and says nothing costs seconds, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/y"
        refused = streamgauge("migrate", folder=tmp_path, DATABASE_URL=url)  # within its own time limit
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "no answer in time" in refused.stderr


def test_a_migration_that_is_not_allowed_is_one_line(server: PostgresServer, tmp_path: Path) -> None:
    """As for a user who may not make tables; nothing is half-made."""

    async def admit_a_guest() -> None:
        connection = await asyncpg.connect(server.url)
        try:
            await connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
            await connection.execute("CREATE DATABASE other")
        finally:
            await connection.close()

    asyncio.run(admit_a_guest())
    url = f"postgresql://guest:secret@{server.url.partition('@')[2].partition('/')[0]}/other"
    refused = streamgauge("migrate", folder=tmp_path, DATABASE_URL=url)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "permission denied for schema public" in refused.stderr
