"""The one place where a backend's name meets its writer and its reader."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from app.database import Database
from app.settings import Settings
from app.streaming.contract import StreamReader, StreamWriter
from app.streaming.polling import PollingTimes, PollingWriter, open_polling
from app.streaming.pubsub import PubSubTimes, open_pubsub

NAMES = ("polling", "pubsub")
SAFE = "polling"
"""Where a stream goes whose own backend is away."""


@dataclass(frozen=True, slots=True)
class Backends:
    """This process's writer and reader of every backend. `safe` is where a stream goes whose backend is lost."""

    writers: dict[str, StreamWriter]
    readers: dict[str, StreamReader]
    safe: PollingWriter


@contextlib.asynccontextmanager
async def open_backends(settings: Settings, database: Database) -> AsyncIterator[Backends]:
    """Own the connections of every backend for the length of the block."""
    polling_times = PollingTimes(settings.polling_interval_s, settings.lease_s, settings.silence_s)
    pubsub_times = PubSubTimes(settings.lease_s, settings.queue_patience_s, settings.silence_s, settings.chunk_ttl_s)
    async with (
        open_polling(database, polling_times) as (polling_writer, polling_reader),
        open_pubsub(settings.redis_url, pubsub_times, cluster=settings.store_cluster) as (pubsub_writer, pubsub_reader),
    ):
        yield Backends(
            writers={"polling": polling_writer, "pubsub": pubsub_writer},
            readers={"polling": polling_reader, "pubsub": pubsub_reader},
            safe=polling_writer,
        )
