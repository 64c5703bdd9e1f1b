"""What every reader that is pushed to has in common: what it hears, stitched to what the log holds."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from app.streaming.box import Box
from app.streaming.contract import ChunkType, Entry, Offer, Status, StreamMissingError, decline
from app.telemetry import metrics


class PushedReader(ABC):
    """The part of a reader's `follow` that does not depend on how its entries are pushed."""

    def __init__(self, silence_s: float, backend: str) -> None:
        self._silence_s = silence_s
        self._repairs = metrics.GAP_REPAIRS.labels(backend)
        self._dropped = metrics.DUPLICATES_DROPPED.labels(backend)

    @abstractmethod
    def listen(self, task_id: UUID) -> AbstractAsyncContextManager[Box]:
        """Give a box that gets every entry stored from now on. It may miss some: the log is asked after a silence.

        Raises `StoreUnavailableError`.
        """

    @abstractmethod
    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on."""

    @abstractmethod
    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state, or None when the store does not hold it."""

    async def follow(self, task_id: UUID, start: int, offer: Offer = decline) -> AsyncGenerator[list[Entry], None]:
        """Yield batches of entries from `start` on, and an empty batch after every silence."""
        position = start

        def hand(entry: Entry) -> bool:
            nonlocal position
            if entry.index != position or entry.kind is not ChunkType.CONTENT or not offer(entry):
                return False
            position += 1
            return True

        async with self.listen(task_id) as box:
            joined = False
            while True:
                heard = await box.take(self._silence_s, hand)
                entries = await self._stitch(task_id, position, heard, joined=joined)
                joined = True
                if entries is None:
                    return
                if entries:
                    position = entries[-1].index + 1
                yield entries
                if entries and entries[-1].is_terminal:
                    return

    async def _stitch(
        self, task_id: UUID, position: int, heard: list[Entry] | None, *, joined: bool
    ) -> list[Entry] | None:
        """What follows `position`: from what was heard if that is without a hole, else from the log.

        None when the stream ended before that. Who has `joined` has read the log before.
        """
        if heard:
            fresh = [entry for entry in heard if entry.index >= position]
            self._dropped.inc(len(heard) - len(fresh))
            if all(entry.index == position + offset for offset, entry in enumerate(fresh)):
                return fresh
        status = await self.status(task_id)
        if status is not None and status.awaits(position):
            return []  # there is nothing to read, and what comes will be heard
        entries = await self.get_chunks(task_id, position)
        if status is None or not status.explains(position, entries):
            raise StreamMissingError(f"stream {task_id} is no longer in the chunk store")
        self._repairs.inc(bool(joined and entries))
        return None if status.ended_before(position) else entries
