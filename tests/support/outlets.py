"""A viewer's way out that a test can look into, fill and break."""

import asyncio
from collections.abc import Callable


class Kept:
    """Takes everything, at once or not, for as long as it has room."""

    def __init__(self) -> None:
        self.sent = list[bytes]()
        self.offered = 0
        """How many of them were taken at once."""
        self.room = asyncio.Event()
        self.room.set()

    async def send(self, data: bytes) -> None:
        await self.room.wait()
        self.sent.append(data)

    def offer(self, data: bytes) -> bool:
        if not self.room.is_set():
            return False
        self.sent.append(data)
        self.offered += 1
        return True

    def watch(self, left: Callable[[], None]) -> None:
        """Nobody leaves by himself."""

    def forget(self) -> None:
        """Nor does anybody wait for it."""
