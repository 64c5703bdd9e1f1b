"""Where entries wait for a viewer of this process: bounded in-trays, filled by whoever hears of new entries.

A listener's failure never reaches who fills its box: putting an entry never waits for anybody.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator

import msgspec

from app.streaming.contract import Entry, Offer, StoreUnavailableError, decline, entry_of
from app.telemetry import metrics

log = logging.getLogger(__name__)

BOX_LIMIT = 256
"""Entries a slow viewer may have waiting; beyond it the box is emptied and the viewer reads the log instead."""
SILENCES_EVERY_S = 0.1
"""How exactly a silence is timed."""


class Box:
    """One listener's bounded in-tray. It begins with a gap, since the listener has not read the log yet."""

    __slots__ = ("_entries", "_failure", "_gap", "_lost", "_offer", "_patience_s", "_patient_until", "_waiter")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._gap = True
        self._lost = False
        self._offer: Offer = decline
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._patience_s, self._patient_until = 0.0, 0.0

    def put(self, entry: Entry) -> None:
        """Offer an entry to a listener who waits for one, or add it; mark a gap when the box is full."""
        if self._offer is not decline:
            try:
                if self._offer(entry):
                    self._patient_until = 0.0
                    return
            except Exception as error:  # the listener's own, and raised to it alone
                self._failure = error
        if len(self._entries) >= BOX_LIMIT:
            metrics.CATCH_UPS.inc()
            self.mark_gap()
        else:
            self._entries.append(entry)
            self._wake()

    def mark_gap(self) -> None:
        """Tell the listener that entries may be missing: it must read the log."""
        self._entries, self._gap = [], True
        self._wake()

    def lose(self) -> None:
        """Tell the listener that nothing will come here any more: it must listen anew."""
        self._lost = True
        self._wake()

    async def take(self, patience_s: float, offer: Offer = decline) -> list[Entry] | None:
        """Take all that waits; `[]` after a silence of `patience_s`; None when the log must be read.

        While it waits, each entry is offered first: one that is taken at once only ends the silence. Raises
        `StoreUnavailableError` once the subscription has ended under it, and what the offer raised.
        """
        if not (self._entries or self._gap or self._lost):
            await self._wait(patience_s, offer)
        if self._failure is not None:
            raise self._failure
        if self._lost:
            raise StoreUnavailableError("the store ended the subscription; follow again")
        if self._gap:
            self._gap, self._entries = False, []
            return None
        entries, self._entries = self._entries, []
        return entries

    def end_silence(self, now: float) -> None:
        """Wake a listener whose patience is over at this time of the loop's."""
        if not self._patient_until:  # something was taken since the last look
            self._patient_until = now + self._patience_s
        elif now >= self._patient_until:
            self._wake()

    async def _wait(self, patience_s: float, offer: Offer) -> None:
        loop = asyncio.get_running_loop()
        self._waiter, self._offer = loop.create_future(), offer
        self._patience_s, self._patient_until = patience_s, loop.time() + patience_s
        try:
            await self._waiter
        finally:
            self._waiter, self._offer = None, decline

    def _wake(self) -> None:
        """End the wait. Nothing is offered from here on: what comes before the listener runs keeps its place."""
        self._offer = decline
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Boxes:
    """The boxes of all listeners, by the name of what they listen to."""

    def __init__(self) -> None:
        self._boxes: dict[str, set[Box]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def minded(cls) -> AsyncIterator["Boxes"]:
        """Time the silences of all boxes for the length of the block; who still listens at its end is told.

        One timer for all of them costs nothing per message, theirs would.
        """
        boxes = cls()
        minding = asyncio.create_task(boxes._mind_silences())
        try:
            yield boxes
        finally:
            minding.cancel()
            for name in boxes:
                boxes.lose(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._boxes)

    def __contains__(self, name: str) -> bool:
        return name in self._boxes

    def add(self, name: str) -> Box:
        """Give a new box for one more listener."""
        box = Box()
        self._boxes.setdefault(name, set()).add(box)
        return box

    def remove(self, name: str, box: Box) -> bool:
        """Take a box away; True when it was the last of this name."""
        boxes = self._boxes[name]
        boxes.discard(box)
        if not boxes:
            del self._boxes[name]
        return not boxes

    def put(self, name: str, record: bytes) -> None:
        """Give a record's entry to all who listen to this name; without them it is not even read."""
        if (boxes := self._boxes.get(name)) is None:
            return
        try:
            entry = entry_of(record)
        except msgspec.DecodeError:
            log.warning("dropped a message on %s that is no record; who else publishes there?", name)
            return
        for box in boxes:
            box.put(entry)

    def mark_gap(self, name: str) -> None:
        """Send all who listen to this name to the log."""
        for box in self._boxes.get(name, ()):
            box.mark_gap()

    def mark_gaps(self) -> None:
        """Send everybody to the log: that fails if the store is lost, and so they learn of it without a silence."""
        for name in self._boxes:
            self.mark_gap(name)

    def lose(self, name: str) -> None:
        """Tell all who listen to this name to listen anew."""
        for box in self._boxes.get(name, ()):
            box.lose()

    async def _mind_silences(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SILENCES_EVERY_S)
            now = loop.time()
            for boxes in self._boxes.values():
                for box in boxes:
                    box.end_silence(now)
