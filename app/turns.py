"""Turns at the pool of connections: a wait for one is no outage as long as the others are answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

LOOK_EVERY_S = 1.0
LOOKS = 10
"""After so many looks at which nobody had been answered since the last, the database is away. Looks, since they are as
late as the loop: the time in which it stood still is not the database's."""


class Turns:
    """As many at a time as there are connections, in the order in which they came.

    So a wait is bounded by the length of the line, since a connection or a statement without an answer has a timeout.
    """

    def __init__(self, size: int, busy_s: float) -> None:
        self._free, self._busy_s = asyncio.Semaphore(size), busy_s
        self._answered = 0

    @contextlib.asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """Have a turn for the length of the block.

        Raises `TimeoutError` when nobody in front is answered any more, or after `busy_s`.
        """
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
            self._answered += 1
        finally:
            self._free.release()

    async def _wait(self) -> None:
        waiting = asyncio.create_task(self._free.acquire())
        try:
            await self._has_come(waiting)
        except BaseException:
            if not waiting.cancel():  # it has just come
                self._free.release()
            raise

    async def _has_come(self, turn: asyncio.Task[Literal[True]]) -> None:
        loop = asyncio.get_running_loop()
        since, silent, answered = loop.time(), 0, self._answered
        while True:
            await asyncio.wait({turn}, timeout=LOOK_EVERY_S)
            if turn.done():
                return
            silent = silent + 1 if answered == self._answered else 0
            answered = self._answered
            if silent >= LOOKS:
                raise TimeoutError(f"nobody in this process has been answered for {LOOKS * LOOK_EVERY_S:g} s")
            if loop.time() - since > self._busy_s:
                raise TimeoutError(f"others had the pool for {self._busy_s:g} s: raise STREAMGAUGE_DATABASE_POOL")
