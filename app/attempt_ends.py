"""What ends an attempt early: a newer attempt that fences it, somebody who cancels the stream, a model that fails."""

import asyncio
from collections.abc import Awaitable, Callable

from app.speech import ModelError
from app.streaming.contract import Answer, FencedError, Outcome, StoreUnavailableError, StreamMissingError

RENEW_AGAIN_S = 1.0
"""After a renewal that failed: soon enough for several more within a lease."""


class CancelledByUserError(Exception):
    """Somebody asked for the stream to be cancelled."""


async def keep_lease(renew: Callable[[], Awaitable[Answer]], lease_s: float) -> None:
    """Renew the lease, and with it the stream's lifetime in the store, whether or not the model speaks.

    Ends by `FencedError` or `CancelledByUserError` alone; a store that is away is asked again.
    """
    usual = pause = lease_s / 3
    while True:
        await asyncio.sleep(pause)
        try:
            answer = await renew()
        except (StoreUnavailableError, StreamMissingError):
            pause = min(usual, RENEW_AGAIN_S)
            continue
        pause = usual
        if answer.outcome in {Outcome.FENCED, Outcome.CLOSED}:
            raise FencedError
        if answer.cancelled:
            raise CancelledByUserError


async def watch_cancel(wait_cancel: Callable[[], Awaitable[None]]) -> None:
    """Wait for a cancel, and raise it as `CancelledByUserError`."""
    while True:
        try:
            await wait_cancel()
        except (StoreUnavailableError, StreamMissingError):
            await asyncio.sleep(1)  # the store may come back, or the stream may be handed over meanwhile
        else:
            raise CancelledByUserError


def deciding(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose what really ended the attempt: being fenced outranks a cancel, and that outranks the rest."""
    leaves = [
        error
        for part in group.exceptions
        for error in (part.exceptions if isinstance(part, BaseExceptionGroup) else (part,))
    ]
    return min(
        leaves,
        key=lambda error: (not isinstance(error, FencedError), not isinstance(error, CancelledByUserError)),
    )


async def failure_of(speaking: Awaitable[None]) -> ModelError | None:
    """Hear the model out; its failure is for later, since what it said before is the viewers'."""
    try:
        await speaking
    except ModelError as error:
        return error
    return None
