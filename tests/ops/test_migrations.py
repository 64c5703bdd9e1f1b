"""The schema: made by migrations alone, equal to the tables, and kind to the rows it finds."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import asyncpg
import pytest
from alembic import config

from ops.app_commands import ROOT
from ops.postgres_server import PostgresServer
from tests.ops.test_cli import streamgauge
from tests.support.database import migrated_postgres

T = TypeVar("T")


def on(server: PostgresServer, act: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Do this on a connection of its own."""

    async def run() -> T:
        connection = await asyncpg.connect(server.url)
        try:
            return await act(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def alembic(server: PostgresServer, *arguments: str) -> None:
    """Run it here, as its command does, which ends with SystemExit if it is refused."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        patched.setenv("DATABASE_URL", server.url)
        config.main(["-c", "ops/alembic.ini", *arguments])


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
    alembic(server, "downgrade", "0001")
    old = """
        INSERT INTO conversation VALUES (gen_random_uuid(), NULL, now());
        INSERT INTO message (id, conversation_id, role, content, status, timings, created_at)
        SELECT gen_random_uuid(), id, 'assistant', '', status, timings::jsonb, now() FROM conversation,
               (VALUES ('failed', NULL), ('failed', '{"posted_ns": 1}'), ('complete', '{}'))
               AS old (status, timings)
    """
    on(server, lambda connection: connection.execute(old))
    alembic(server, "upgrade", "head")
    rows = on(server, lambda connection: connection.fetch("SELECT status, code, retryable FROM message ORDER BY seq"))
    assert [tuple(row) for row in rows] == [
        ("failed", "producer_lost", True),
        ("failed", "internal", True),
        ("complete", None, None),
    ]


class Refused(NamedTuple):
    """What `streamgauge migrate` said to databases that do not do what it asks."""

    by_nobody: "subprocess.CompletedProcess[str]"
    by_silence: "subprocess.CompletedProcess[str]"
    by_rights: "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def refused(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """Three at once, since one of them waits."""
    on(server, lambda connection: connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'"))
    on(server, lambda connection: connection.execute("CREATE DATABASE other"))
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(3) as threads:
        addresses = (
            "x:secret@127.0.0.1:1/y",
            f"x@127.0.0.1:{silent.getsockname()[1]}/y",
            f"guest:secret@{server.url.partition('@')[2].partition('/')[0]}/other",
        )
        folder = tmp_path_factory.mktemp("refused")
        return Refused(
            *threads.map(
                lambda address: streamgauge("migrate", folder=folder, DATABASE_URL=f"postgresql://{address}"),
                addresses,
            )
        )


def test_a_database_that_refuses_is_one_line(refused: Refused) -> None:
    """It says what to check, and shows no password."""
    assert refused.by_nobody.returncode == 1
    assert refused.by_nobody.stderr.count("\n") == 1
    assert "Connect call failed ('127.0.0.1', 1). Check DATABASE_URL" in refused.by_nobody.stderr
    assert "secret" not in refused.by_nobody.stderr


def test_a_database_that_is_silent_is_given_up(refused: Refused) -> None:
    """What takes the connection and says nothing costs seconds, not for ever: the command ends within its time."""
    assert refused.by_silence.returncode == 1
    assert refused.by_silence.stderr.count("\n") == 1
    assert "no answer in time" in refused.by_silence.stderr


def test_a_migration_that_is_not_allowed_is_one_line(refused: Refused) -> None:
    """As for a user who may not make tables; nothing is half-made."""
    assert refused.by_rights.returncode == 1
    assert refused.by_rights.stderr.count("\n") == 1
    assert "permission denied for schema public" in refused.by_rights.stderr
