"""What one owner may take of this process: open streams, and messages a minute."""

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic

from app.settings import Settings

FULL_RETRY_S = 5
"""When a stream of one's own has probably ended; nobody knows when."""


class OverLimitError(Exception):
    """An owner has as much as he may; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Limits:
    """Counts per owner. Nobody in particular (None) has no limits; there are as many owners as the settings name."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._most_streams, self._a_minute = settings.owner_streams, settings.owner_messages_per_minute
        self._clock = clock
        self._open = Counter[str]()
        self._spent = dict[str, tuple[float, float]]()

    def take_message(self, owner: str | None) -> None:
        """Count a message. Raises `OverLimitError`: a minute's worth may come at once, then they come evenly."""
        if owner is None or not self._a_minute:
            return
        now = self._clock()
        spent, since = self._spent.get(owner, (0.0, now))
        spent = max(0.0, spent - (now - since) * self._a_minute / 60)
        if spent + 1 > self._a_minute:
            raise OverLimitError(
                f"At most {self._a_minute} messages a minute here (STREAMGAUGE_OWNER_MESSAGES_PER_MINUTE).",
                math.ceil((spent + 1 - self._a_minute) * 60 / self._a_minute),
            )
        self._spent[owner] = (spent + 1, now)

    def check_streams(self, owner: str | None) -> None:
        """Raise `OverLimitError` if an owner can open no other stream."""
        if owner is not None and self._most_streams and self._open[owner] >= self._most_streams:
            raise OverLimitError(
                f"At most {self._most_streams} open streams here (STREAMGAUGE_OWNER_STREAMS): end one first.",
                FULL_RETRY_S,
            )

    @contextlib.contextmanager
    def stream(self, owner: str | None) -> Iterator[None]:
        """Count an open stream for the length of the block. Raises `OverLimitError`."""
        self.check_streams(owner)
        if owner is None:
            yield
            return
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
