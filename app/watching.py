"""What an API process looks at now and then, because nothing that happens would tell it."""

import asyncio
import contextlib
from math import nan

from app.broker import BrokerUnavailableError, Queue
from app.telemetry import metrics

LOOP_EVERY_S = 0.5
QUEUE_EVERY_S = 5.0


async def watch_loop() -> None:
    """Report for ever how late this loop runs."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOP_EVERY_S
        await asyncio.sleep(LOOP_EVERY_S)
        metrics.API_LOOP_LAG_SECONDS.set(max(0.0, loop.time() - due))


async def watch_queue(queue: Queue) -> None:
    """Report for ever how many messages wait in the broker, and how long; what can't be asked is not known, not 0."""
    while True:
        depth = oldest_s = nan
        with contextlib.suppress(BrokerUnavailableError):
            depth, oldest_s = await queue.depth(), await queue.oldest_s()
        metrics.QUEUE_DEPTH.set(depth)
        metrics.QUEUE_OLDEST_SECONDS.set(oldest_s)
        await asyncio.sleep(QUEUE_EVERY_S)
