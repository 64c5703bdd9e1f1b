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
        raise StackError(f"The database did not answer: {error}. Set DATABASE_URL to the one the API uses.") from error
