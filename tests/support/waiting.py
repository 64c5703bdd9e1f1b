"""Tests wait for conditions, not for time."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

_never = threading.Event()
LOOK_EVERY_S = 0.02
PATIENCE_S = 30.0
"""Says nothing of how quick a thing must be: a busy machine has held up a process for half of it."""


def until(condition: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as the condition holds; fail with the sentence `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain until: {what}")
        _never.wait(LOOK_EVERY_S)


async def until_awaited(condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = PATIENCE_S) -> None:
    """The same for a condition that is a coroutine."""
    deadline = time.monotonic() + timeout_s
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain until: {what}")
        await asyncio.sleep(LOOK_EVERY_S)
