"""Notices a target that is gone while a plan is played, so that it is not played to its end against nobody."""

import time
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from loadtest.generator import Progress

LOOK_S = 1.0
PATIENCE_S = 10.0
"""Longer than a restart takes, or the store of a system of ours needs to come back."""
TRY_S = 2.0
# What a proxy says of a server behind it that it cannot reach; any other answer is the target's own.
NOBODY_BEHIND = (502, 504)


class UnreachableError(RuntimeError):
    """No try has reached the target for too long; the message counts from the beginning of the load."""


class Reach:
    """Asks the target itself, but only while no chunk comes: one that sends is there, and a question costs it time.

    A target that answers at all is reached, whatever it says: streams that fail are for the verdict to judge.
    """

    def __init__(
        self, target: str, answers: Callable[[str], bool] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._target, self._answers, self._now = target, answers or is_there, now
        self._began_s = now()
        self._next_s = self._began_s + LOOK_S
        self._chunks = 0
        self._since_s: float | None = None

    @property
    def away_s(self) -> float | None:
        """For how long it could not be reached; null while it can."""
        return None if self._since_s is None else self._now() - self._since_s

    def heard(self, seen: Progress | None) -> None:
        """Take a report of the generator, or that none came for a while. Raises UnreachableError when it is time."""
        now_s = self._now()
        if seen is not None and seen.event == "progress":
            before, self._chunks = self._chunks, seen.chunks  # which begin anew with each block
            if seen.chunks > before:
                self._next_s, self._since_s = now_s + LOOK_S, None
        if now_s < self._next_s:
            return
        if self._answers(self._target):
            self._since_s = None
        elif self._since_s is None:
            self._since_s = now_s
        self._next_s = self._now() + LOOK_S
        if self._since_s is not None and self._now() - self._since_s >= PATIENCE_S:
            since_s = self._since_s - self._began_s
            raise UnreachableError(f"the target could not be reached any more since second {since_s:.0f}")


def is_there(target: str) -> bool:
    """Whether anything answers for it."""
    try:
        with urlopen(f"{target}/health", timeout=TRY_S) as answer:  # noqa: S310
            answer.read()
    except HTTPError as error:
        error.close()
        return error.code not in NOBODY_BEHIND
    except (OSError, HTTPException):
        return False
    return True
