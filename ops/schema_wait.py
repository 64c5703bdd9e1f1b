"""Waits until the database has the schema that this version's code needs: what a pod does before its process starts."""

import asyncio
import logging
import sys
from pathlib import Path

import asyncpg
from alembic.script import ScriptDirectory

from app.database import UNPREPARED
from app.settings import load_settings

AGAIN_S = 2.0
PATIENCE_S = 5.0
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)

log = logging.getLogger("streamgauge.schema")


async def revision_of(url: str) -> str | None:
    """Ask which revision the schema has; None if the database holds no tables of ours."""
    connection = await asyncpg.connect(url, timeout=PATIENCE_S, command_timeout=PATIENCE_S, **UNPREPARED)
    try:
        is_made = await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL")
        found = await connection.fetchval("SELECT version_num FROM alembic_version") if is_made else None
        return None if found is None else str(found)
    finally:
        await connection.close()


def serves(revision: str | None) -> bool:
    """Tell whether this version works on that schema: on its own, and on one it does not know, which is a newer one's.

    Were it to wait on a newer one's, an image that is rolled back would never start, nor would one more of the version
    before while a new one is rolled out. Each migration works under the version before it.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent / "migrations"))
    older = {script.revision for script in scripts.walk_revisions()} - set(scripts.get_heads())
    return revision is not None and revision not in older


async def wait(url: str, again_s: float = AGAIN_S) -> None:
    """Return as soon as the schema serves; say each time why not yet."""
    while True:
        try:
            revision = await revision_of(url)
            if serves(revision):
                return
            log.warning("the schema is %s: waiting for `streamgauge migrate`", revision or "not made yet")
        except AWAY as error:
            log.warning("the database does not answer (%s): check DATABASE_URL, and that its server runs", error)
        await asyncio.sleep(again_s)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")
    asyncio.run(wait(load_settings().database_url))
