"""The flag's records for a command: connected, asked, and let go."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.database import Database, DatabaseUnavailableError
from app.flag_records import FlagRecords
from app.settings import load_settings
from ops.processes import StackError

T = TypeVar("T")


def recorded(database_url: str, ask: Callable[[FlagRecords], Awaitable[T]]) -> T:
    """Ask the records of this database. Raises `StackError` when it is away, and whatever the asking raises."""

    async def run() -> T:
        async with Database.connect(database_url, 1, pooler=load_settings().database_pooler) as database:
            return await ask(FlagRecords(database))

    try:
        return asyncio.run(run())
    except DatabaseUnavailableError as error:
        raise StackError(f"The database did not answer: {error}. {_what_to_do(error)}") from error


def _what_to_do(error: DatabaseUnavailableError) -> str:
    """Where a connection was made and nothing came, the address is seldom what is wrong."""
    if isinstance(error.__cause__, TimeoutError):
        return (
            "It stands still, or somebody holds a lock that this waits for: `streamgauge doctor` says which. Or "
            "DATABASE_URL leads to a place that takes connections and serves none."
        )
    return "Set DATABASE_URL to the one the API uses."
