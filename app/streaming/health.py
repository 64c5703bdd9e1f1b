"""Whether NEW streams may go to the chunk store. Streams that run do not ask: their producer hands them over."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from app.streaming.contract import StoreUnavailableError
from app.telemetry import metrics

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
LOOKS = 10
"""In this many turns of the loop at least an answer has to come: in one that is late it may wait in the socket."""


class StoreHealth:
    """Away at the first failed or late answer; back only after the store has answered well for a while."""

    def __init__(self, ask: Callable[[], Awaitable[object]], patience_s: float, back_s: float) -> None:
        self._ask, self._patience_s, self._back_s = ask, patience_s, back_s
        self._well_since: float | None = None
        self.away = False

    @classmethod
    @contextlib.asynccontextmanager
    async def watch(
        cls, ask: Callable[[], Awaitable[object]], patience_s: float, back_s: float
    ) -> AsyncIterator["StoreHealth"]:
        """Ask the store again and again for the length of the block."""
        health = cls(ask, patience_s, back_s)
        metrics.STORE_AWAY.set(0)
        watching = asyncio.create_task(health._keep_looking())
        try:
            yield health
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def attempt(self, step: Awaitable[None]) -> None:
        """Await a step of the store. Raises `StoreUnavailableError`, also when it is late; the store is away then."""
        try:
            async with _patience(self._patience_s / LOOKS):
                await step
        except TimeoutError as error:
            self.failed()
            raise StoreUnavailableError(f"the chunk store took longer than {self._patience_s:g} s") from error
        except StoreUnavailableError:
            self.failed()
            raise

    def failed(self) -> None:
        """Send new streams elsewhere from now on."""
        self._well_since = None
        if not self.away:
            log.warning("the chunk store is away: new messages go to the safe backend")
        self._set(away=True)

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(StoreUnavailableError):
                await self.attempt(self._look())
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        await self._ask()
        now = asyncio.get_running_loop().time()
        self._well_since = self._well_since or now
        if self.away and now - self._well_since >= self._back_s:
            log.warning("the chunk store is back: new messages go where the flag says")
            self._set(away=False)

    def _set(self, *, away: bool) -> None:
        self.away = away
        metrics.STORE_AWAY.set(away)


@contextlib.asynccontextmanager
async def _patience(look_s: float) -> AsyncIterator[None]:
    """End the block by a `TimeoutError` after `LOOKS` looks, each of which comes as late as the loop is."""
    async with asyncio.timeout(None) as limit:
        looking = asyncio.create_task(_end_after_looks(limit, look_s))
        try:
            yield
        finally:
            looking.cancel()


async def _end_after_looks(limit: asyncio.Timeout, look_s: float) -> None:
    for _ in range(LOOKS):
        await asyncio.sleep(look_s)
    limit.reschedule(asyncio.get_running_loop().time())
