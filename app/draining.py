"""How a process that is asked to stop lets its viewers go."""

import asyncio
from collections.abc import Callable


class Drain:
    """Open views may run on for `deadline_s` after the drain has begun; then they end, and clients resume elsewhere."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._views = set[Callable[[], None]]()
        self.has_begun = self.is_over = False

    def begin(self) -> None:
        """Start the clock. Doing it again changes nothing."""
        if not self.has_begun:
            self.has_begun = True
            asyncio.get_running_loop().call_later(self._deadline_s, self._end)

    def enter(self, end: Callable[[], None]) -> None:
        """Have `end` called when every view must end: now, if that time has come. It must not raise."""
        self._views.add(end)
        if self.is_over:
            end()

    def leave(self, end: Callable[[], None]) -> None:
        """Forget about a view."""
        self._views.discard(end)

    def _end(self) -> None:
        self.is_over = True
        for end in self._views:
            end()
