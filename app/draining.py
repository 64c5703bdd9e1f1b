"""How a process that is asked to stop lets its viewers go."""

import asyncio


class Drain:
    """Open views may run on for `deadline_s` after the drain has begun; then they end, and clients resume elsewhere."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self.has_begun = False
        self.over = asyncio.get_running_loop().create_future()
        """Done when every view must end."""

    def begin(self) -> None:
        """Start the clock. Doing it again changes nothing."""
        if not self.has_begun:
            self.has_begun = True
            asyncio.get_running_loop().call_later(self._deadline_s, self._end)

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
