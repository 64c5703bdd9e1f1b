"""One shared subscription a process, many local listeners.

A listener's failure never reaches the hub: it only puts entries into bounded boxes, and never waits for anybody.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

from app.streaming.contract import Entry, StoreUnavailableError, entry_of
from app.streaming.valkey import Valkey
from app.telemetry import metrics

log = logging.getLogger(__name__)

BOX_LIMIT = 256
"""Entries a slow viewer may have waiting; beyond it the box is emptied and the viewer reads the log instead."""
ACK_S = 3.0
SILENCES_EVERY_S = 0.1
"""How exactly a silence is timed."""
RESUBSCRIBE_BATCH = 500


@dataclass(frozen=True, slots=True)
class Kinds:
    """The two commands of one kind of channel, and the first words of the three pushes that they bring."""

    join: str
    leave: str
    message: bytes
    joined: bytes
    left: bytes


PLAIN = Kinds("SUBSCRIBE", "UNSUBSCRIBE", b"message", b"subscribe", b"unsubscribe")
SHARDED = Kinds("SSUBSCRIBE", "SUNSUBSCRIBE", b"smessage", b"ssubscribe", b"sunsubscribe")


class Box:
    """One listener's bounded in-tray. It begins with a gap, since the listener has not read the log yet."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._gap = True
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._patient_until = 0.0

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

    def lose(self) -> None:
        """Tell the listener that nothing will come here any more: it must listen anew."""
        self._lost = True
        self._wake()

    async def take(self, patience_s: float) -> list[Entry] | None:
        """Take all that waits; `[]` after a silence of `patience_s`; None when the log must be read.

        Raises `StoreUnavailableError` once the subscription has ended under it.
        """
        if not (self._entries or self._gap or self._lost):
            await self._wait(patience_s)
        if self._lost:
            raise StoreUnavailableError("the store ended the subscription; follow again")
        if self._gap:
            self._gap, self._entries = False, []
            return None
        entries, self._entries = self._entries, []
        return entries

    def end_silence(self, now: float) -> None:
        """Wake a listener whose patience is over at this time of the loop's."""
        if now >= self._patient_until:
            self._wake()

    async def _wait(self, patience_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter, self._patient_until = loop.create_future(), loop.time() + patience_s
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """Subscriptions of this process on one connection; listeners of a channel share its subscription.

    `sharded` channels are those of a cluster: the server ends their subscription when their slot moves away.
    """

    def __init__(self, *, sharded: bool = False) -> None:
        self._boxes: dict[str, set[Box]] = {}
        self._acks: dict[str, asyncio.Future[bool]] = {}
        self._leaving = Counter[str]()
        self._kinds = SHARDED if sharded else PLAIN
        self._batch = 1 if sharded else RESUBSCRIBE_BATCH  # a command may not name two slots
        self._valkey: Valkey

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, *, sharded: bool = False) -> AsyncIterator["Hub"]:
        """Own the subscribing connection for the length of the block; listeners who outlive it are told."""
        hub = cls(sharded=sharded)
        async with Valkey.connect(
            url,
            on_push=hub._on_push,
            on_connect=hub._on_connect,
            on_loss=hub._on_loss,
            on_refusal=hub._on_refusal,
        ) as hub._valkey:
            minding = asyncio.create_task(hub._mind_silences())
            try:
                yield hub
            finally:
                minding.cancel()
                for channel in hub._boxes:
                    hub._lose(channel)

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
                if self._acks.pop(channel, None) is not None and self._valkey.connected.is_set():
                    self._leaving[channel] += 1
                    self._valkey.send(self._kinds.leave, channel)

    async def _mind_silences(self) -> None:
        """End all listeners' silences that are due: one timer for them costs nothing per message, theirs would."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SILENCES_EVERY_S)
            now = loop.time()
            for boxes in self._boxes.values():
                for box in boxes:
                    box.end_silence(now)

    async def _subscribed(self, channel: str) -> None:
        ack = self._acks.get(channel)
        if ack is None:
            if not self._valkey.connected.is_set():
                raise StoreUnavailableError("not connected to the chunk store; check REDIS_URL")
            ack = self._acks[channel] = asyncio.get_running_loop().create_future()
            self._valkey.send(self._kinds.join, channel)
        try:
            async with asyncio.timeout(ACK_S):  # wait_for of Python 3.11 forgets a cancel that comes with the reply
                accepted = await asyncio.shield(ack)
        except TimeoutError as error:
            raise StoreUnavailableError(f"no acknowledgement of the subscription within {ACK_S:.0f} s") from error
        if not accepted:
            raise StoreUnavailableError("the store refused the subscription; its answer is in this process's log")

    def _on_connect(self) -> None:
        """Subscribe again to everything; each acknowledgement marks its boxes, so that nobody trusts the gap."""
        channels = list(self._boxes)
        for channel in channels:
            if channel not in self._acks or self._acks[channel].done():
                self._acks[channel] = asyncio.get_running_loop().create_future()
        for first in range(0, len(channels), self._batch):
            self._valkey.send(self._kinds.join, *channels[first : first + self._batch])

    def _on_loss(self) -> None:
        """Send every listener to the log at once: that fails, and so it learns of the loss without a silence."""
        self._leaving.clear()
        for boxes in self._boxes.values():
            for box in boxes:
                box.mark_gap()

    def _on_refusal(self, reply: str) -> None:
        """Send away whoever waits for an acknowledgement: an error does not say which subscription it refuses."""
        log.warning("the chunk store refused a subscription: %s", reply)
        for channel in [channel for channel, ack in self._acks.items() if not ack.done()]:
            self._lose(channel)

    def _on_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == self._kinds.message:
            self._deliver(push[1].decode(), push[2])
        elif kind == self._kinds.joined:
            self._acknowledge(push[1].decode())
        elif kind == self._kinds.left:
            self._let_go(push[1].decode())

    def _acknowledge(self, channel: str) -> None:
        ack = self._acks.get(channel)
        if ack is not None and not ack.done():
            ack.set_result(True)
        for box in self._boxes.get(channel, ()):
            box.mark_gap()

    def _let_go(self, channel: str) -> None:
        """Take note of an end that we asked for; one that we did not ask for is its listeners' loss."""
        if not self._leaving[channel]:
            self._lose(channel)
        self._leaving -= Counter((channel,))

    def _lose(self, channel: str) -> None:
        ack = self._acks.pop(channel, None)
        if ack is not None and not ack.done():
            ack.set_result(False)
        for box in self._boxes.get(channel, ()):
            box.lose()

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
