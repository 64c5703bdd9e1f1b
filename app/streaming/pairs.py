"""The one place where a backend's name meets its writer and its reader."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from app.database import Database
from app.settings import Settings
from app.streaming.backends import NAMES, SAFE
from app.streaming.contract import StreamReader, StreamWriter
from app.streaming.notify import open_notify
from app.streaming.polling import open_polling
from app.streaming.pubsub import open_pubsub
from app.streaming.rows import RowWriter
from app.streaming.streams import open_streams

OPENERS: dict[str, Callable[[Settings, Database], AbstractAsyncContextManager[Any]]] = {
    "polling": open_polling,
    "pubsub": open_pubsub,
    "notify": open_notify,
    "streams": open_streams,
}
"""How a process opens its two sides of each backend."""


@dataclass(frozen=True, slots=True)
class Backends:
    """This process's writer and reader of every backend. `safe` is where a stream goes whose backend is lost."""

    writers: dict[str, StreamWriter]
    readers: dict[str, StreamReader]
    safe: RowWriter


@contextlib.asynccontextmanager
async def open_backends(settings: Settings, database: Database) -> AsyncIterator[Backends]:
    """Own the connections of every backend for the length of the block."""
    async with contextlib.AsyncExitStack() as opened:
        pairs = {name: await opened.enter_async_context(OPENERS[name](settings, database)) for name in NAMES}
        yield Backends(
            writers={name: writer for name, (writer, _) in pairs.items()},
            readers={name: reader for name, (_, reader) in pairs.items()},
            safe=pairs[SAFE][0],
        )
