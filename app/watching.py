"""What a process looks at now and then, because nothing that happens would tell it."""

import asyncio
import contextlib
import logging
from math import nan
from typing import Protocol

from app.broker import BrokerUnavailableError, Queue
from app.database import DatabaseError
from app.flag_records import FlagRecords
from app.telemetry import metrics

log = logging.getLogger(__name__)

LOOP_EVERY_S = 0.5
QUEUE_EVERY_S = 5.0
FLAG_EVERY_S = 0.7
"""A process that stores no message follows the flag within this and a query; one that does, with each message."""


async def watch_loop() -> None:
    """Report for ever how late this loop runs."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOP_EVERY_S
        await asyncio.sleep(LOOP_EVERY_S)
        metrics.API_LOOP_LAG_SECONDS.set(max(0.0, loop.time() - due))


class Follower(Protocol):
    """What is told of each newer document."""

    def known(self) -> int:
        """Give the generation that needs no telling."""

    def is_fresh(self) -> bool:
        """Tell whether something else has shown since the last call that the known one is the newest."""

    def learn(self, generation: int, document: str | None) -> None:
        """Take another one; None: there is none any more."""


async def watch_flag(records: FlagRecords, follower: Follower) -> None:
    """Tell for ever of each newer document; while the database is away the last one holds, and that is said once."""
    is_away = False
    while True:
        await asyncio.sleep(FLAG_EVERY_S)
        if follower.is_fresh():
            continue
        known = follower.known()
        try:
            newest = await records.newest(known)
        except DatabaseError as error:
            if not is_away:
                log.warning("the flag can't be followed, generation %d holds: %s", follower.known(), error)
            is_away = True
        else:
            is_away = False
            generation, document = newest or (0, None)
            if generation != known == follower.known():  # else a message has learned of it meanwhile
                follower.learn(generation, document)


async def watch_queue(queue: Queue) -> None:
    """Report for ever how many messages wait in the broker, and how long; what can't be asked is not known, not 0."""
    while True:
        depth = oldest_s = nan
        with contextlib.suppress(BrokerUnavailableError):
            depth, oldest_s = await queue.depth(), await queue.oldest_s()
        metrics.QUEUE_DEPTH.set(depth)
        metrics.QUEUE_OLDEST_SECONDS.set(oldest_s)
        await asyncio.sleep(QUEUE_EVERY_S)
