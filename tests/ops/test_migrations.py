"""The schema: made by migrations alone, equal to the tables, and kind to the rows it finds."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest
from alembic import config

from ops.app_commands import ROOT
from tests.ops.test_cli import streamgauge

T = TypeVar("T")
OWN, GUESTS = "migrated", "unmigrated"
"""Databases beside the one that tests share."""


def on(url: str, act: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Do this on a connection of its own."""

    async def run() -> T:
        connection = await asyncpg.connect(url)
        try:
            return await act(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def execute(url: str, statement: str) -> None:
    on(url, lambda connection: connection.execute(statement))


def alembic(url: str, *arguments: str) -> None:
    """Run it here, as its command does, which ends with the SystemExit that this raises if it is refused."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("DATABASE_URL", url)
        config.main(["-c", "ops/alembic.ini", *arguments])


def beside(database_url: str, name: str) -> str:
    return f"{database_url.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="module")
def own(database_url: str) -> Iterator[str]:
    """One whose schema is the newest; each test leaves it so."""
    execute(database_url, f"CREATE DATABASE {OWN}")
    alembic(beside(database_url, OWN), "upgrade", "head")
    yield beside(database_url, OWN)
    execute(database_url, f"DROP DATABASE {OWN}")


def test_the_migrations_make_the_tables(own: str) -> None:
    """No column of `app.tables` lacks its migration."""
    alembic(own, "check")


def test_messages_that_failed_before_it_was_kept_get_a_code(own: str) -> None:
    """Lost producers left no timings; every other failure is ours."""
    alembic(own, "downgrade", "0001")
    execute(
        own,
        """
            INSERT INTO conversation VALUES (gen_random_uuid(), NULL, now());
            INSERT INTO message (id, conversation_id, role, content, status, timings, created_at)
            SELECT gen_random_uuid(), id, 'assistant', '', status, timings::jsonb, now() FROM conversation,
                   (VALUES ('failed', NULL), ('failed', '{"posted_ns": 1}'), ('complete', '{}'))
                   AS old (status, timings)
        """,
    )
    alembic(own, "upgrade", "head")
    rows = on(own, lambda connection: connection.fetch("SELECT status, code, retryable FROM message ORDER BY seq"))
    assert [tuple(row) for row in rows] == [
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


def said(url: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused migration says, in the one line that is all it says."""
    with pytest.raises(SystemExit) as ended:
        alembic(url, "upgrade", "head")
    words = str(ended.value)
    assert "\n" not in words
    assert capsys.readouterr().err == ""
    return words


def test_a_database_that_is_silent_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    """What takes the connection and says nothing costs seconds, not for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "no answer in time" in said(f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/y", capsys)


def test_a_migration_that_is_not_allowed_is_one_line(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As for a user who may not make tables; nothing is half-made."""
    execute(database_url, "CREATE ROLE guest LOGIN PASSWORD 'secret'")
    execute(database_url, f"CREATE DATABASE {GUESTS}")
    try:
        guests = beside(f"postgresql://guest:secret@{database_url.partition('@')[2]}", GUESTS)
        assert "permission denied for schema public" in said(guests, capsys)
    finally:
        execute(database_url, f"DROP DATABASE {GUESTS}")
        execute(database_url, "DROP ROLE guest")
