"""A real PostgreSQL of a test's own, with the schema in it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ops.postgres_server import PostgresServer, running_postgres

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def migrated_postgres(folder: Path) -> Iterator[PostgresServer]:
    """A server for the length of the block, with its logs in `folder`."""
    with running_postgres(folder) as server:
        command = [sys.executable, "-m", "alembic", "-c", "ops/alembic.ini", "upgrade", "head"]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": server.url}, check=True, timeout=60)
        yield server
