"""A pod waits for its schema: for its own, and not for one that a newer version has made."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ops.app_commands import ROOT
from ops.schema_wait import revision_of, serves, wait
from tests.ops.test_migrations import alembic, beside, execute

pytestmark = pytest.mark.anyio
NAME = "awaited"


@pytest.fixture
def empty(database_url: str) -> Iterator[str]:
    execute(database_url, f"CREATE DATABASE {NAME}")
    yield beside(database_url, NAME)
    execute(database_url, f"DROP DATABASE {NAME}")


async def test_it_ends_when_the_migration_is_done(empty: str) -> None:
    """Not with a database that holds nothing, not with the schema of the version before."""
    waiting = asyncio.create_task(wait(empty, again_s=0.01))
    for revision, ended in ((None, False), ("0001", False), ("head", True)):
        if revision:
            await asyncio.to_thread(alembic, empty, "upgrade", revision)
        assert serves(await revision_of(empty)) == ended
        assert ended or not waiting.done()
    await asyncio.wait_for(waiting, 20)


def test_a_newer_schema_is_not_waited_for() -> None:
    """An image that is rolled back starts: each migration works under the version before it."""
    assert serves("9999")
    assert not serves(None)


async def test_a_database_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """It says what to check, and shows no password."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait("postgresql://x:secret@127.0.0.1:1/y", again_s=0.01), 0.5)
    assert len(caplog.records) > 1
    assert "check DATABASE_URL" in caplog.text
    assert "secret" not in caplog.text


def test_a_pod_starts_it_as_a_program(empty: str) -> None:
    """It is silent when there is nothing to wait for."""
    alembic(empty, "upgrade", "head")
    command = [sys.executable, "-m", "ops.schema_wait"]
    environment = os.environ | {"DATABASE_URL": empty}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
