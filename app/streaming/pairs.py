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


class UnknownBackendError(Exception):
    """A stream is in a backend that this version does not know: one of another version has posted it."""

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"The stream is in {backend!r}, which this version does not know; a server of the version that took its "
            "message serves it. The message as it is stored is at GET /conversations/{id}."
        )


@dataclass(frozen=True, slots=True)
class Backends:
    """This process's writer and reader of every backend. `safe` is where a stream goes whose backend is lost."""

    writers: dict[str, StreamWriter]
    readers: dict[str, StreamReader]
    safe: RowWriter

    def check(self, backend: str) -> None:
        """Raise `UnknownBackendError` unless a stream's backend is one of these."""
        if backend not in self.readers:
            raise UnknownBackendError(backend)


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
