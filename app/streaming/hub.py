"""One shared subscription a process, many local listeners.

A listener's failure never reaches the hub: it only puts entries into bounded boxes, and never waits for anybody.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from app.streaming.contract import Entry, StoreUnavailableError, entry_of
from app.streaming.valkey import Valkey
from app.telemetry import metrics

log = logging.getLogger(__name__)

BOX_LIMIT = 256
"""Entries a slow viewer may have waiting; beyond it the box is emptied and the viewer reads the log instead."""
ACK_S = 3.0
RESUBSCRIBE_BATCH = 500


class Box:
    """One listener's bounded in-tray. It begins with a gap, since the listener has not read the log yet."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._gap = True
        self._waiter: asyncio.Future[None] | None = None

    def put(self, entry: Entry) -> None:
        """Add an entry, or mark a gap when the box is full."""
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

    async def take(self, patience_s: float) -> list[Entry] | None:
        """Take all that waits; `[]` after a silence of `patience_s`; None when the log must be read."""
        if not self._entries and not self._gap:
            await self._wait(patience_s)
        if self._gap:
            self._gap, self._entries = False, []
            return None
        entries, self._entries = self._entries, []
        return entries

    async def _wait(self, patience_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(patience_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """Subscriptions of this process on one connection; listeners of a channel share its subscription."""

    def __init__(self) -> None:
        self._boxes: dict[str, set[Box]] = {}
        self._acks: dict[str, asyncio.Future[None]] = {}
        self._valkey: Valkey

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["Hub"]:
        """Own the subscribing connection for the length of the block."""
        hub = cls()
        async with Valkey.connect(
            url, on_push=hub._on_push, on_connect=hub._on_connect, on_loss=hub._on_loss
        ) as hub._valkey:
            yield hub

    @contextlib.asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Box]:
        """Give a box that gets every message published from now on, until the block ends.

        Raises `StoreUnavailableError` when the subscription is not acknowledged in time.
        """
        box = Box()
        self._boxes.setdefault(channel, set()).add(box)
        try:
            await self._subscribed(channel)
            yield box
        finally:
            boxes = self._boxes[channel]
            boxes.discard(box)
            if not boxes:
                del self._boxes[channel]
                self._acks.pop(channel, None)
                self._valkey.send("UNSUBSCRIBE", channel)

    async def _subscribed(self, channel: str) -> None:
        ack = self._acks.get(channel)
        if ack is None:
            if not self._valkey.connected.is_set():
                raise StoreUnavailableError("not connected to the chunk store; check REDIS_URL")
            ack = self._acks[channel] = asyncio.get_running_loop().create_future()
            self._valkey.send("SUBSCRIBE", channel)
        try:
            await asyncio.wait_for(asyncio.shield(ack), ACK_S)
        except TimeoutError as error:
            raise StoreUnavailableError(f"no acknowledgement of the subscription within {ACK_S:.0f} s") from error

    def _on_connect(self) -> None:
        """Subscribe again to everything; each acknowledgement marks its boxes, so that nobody trusts the gap."""
        channels = list(self._boxes)
        for channel in channels:
            if channel not in self._acks or self._acks[channel].done():
                self._acks[channel] = asyncio.get_running_loop().create_future()
        for first in range(0, len(channels), RESUBSCRIBE_BATCH):
            self._valkey.send("SUBSCRIBE", *channels[first : first + RESUBSCRIBE_BATCH])

    def _on_loss(self) -> None:
        """Send every listener to the log at once: that fails, and so it learns of the loss without a silence."""
        for boxes in self._boxes.values():
            for box in boxes:
                box.mark_gap()

    def _on_push(self, push: list[Any]) -> None:
        kind, channel = push[0], push[1].decode()
        if kind == b"message":
            self._deliver(channel, push[2])
        elif kind == b"subscribe":
            ack = self._acks.get(channel)
            if ack is not None and not ack.done():
                ack.set_result(None)
            for box in self._boxes.get(channel, ()):
                box.mark_gap()

    def _deliver(self, channel: str, payload: bytes) -> None:
        boxes = self._boxes.get(channel)
        if not boxes:
            return
        try:
            entry = entry_of(payload)
        except msgspec.DecodeError:
            log.warning("dropped a message on %s that is no record; who else publishes there?", channel)
            return
        for box in boxes:
            box.put(entry)
