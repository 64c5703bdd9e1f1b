"""One shared subscription a process, many local listeners."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from app.streaming.box import Box, Boxes
from app.streaming.contract import StoreUnavailableError
from app.streaming.valkey import Valkey
from app.telemetry import metrics

log = logging.getLogger(__name__)

ACK_S = 3.0
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


class Hub:
    """Subscriptions of this process on one connection; listeners of a channel share its subscription.

    `sharded` channels are those of a cluster: the server ends their subscription when their slot moves away.
    """

    def __init__(self, boxes: Boxes, *, sharded: bool = False) -> None:
        self._boxes = boxes
        self._acks: dict[str, asyncio.Future[bool]] = {}
        self._leaving = Counter[str]()
        self._kinds = SHARDED if sharded else PLAIN
        self._batch = 1 if sharded else RESUBSCRIBE_BATCH  # a command may not name two slots
        self._valkey: Valkey

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, *, sharded: bool = False) -> AsyncIterator["Hub"]:
        """Own the subscribing connection for the length of the block; listeners who outlive it are told."""
        async with Boxes.minded() as boxes:
            hub = cls(boxes, sharded=sharded)
            async with Valkey.connect(
                url,
                on_push=hub._on_push,
                on_connect=hub._on_connect,
                on_loss=hub._on_loss,
                on_refusal=hub._on_refusal,
                lag=metrics.HUB_LAG_SECONDS.labels("pubsub"),
            ) as hub._valkey:
                yield hub

    @contextlib.asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Box]:
        """Give a box that gets every message published from now on, until the block ends.

        Raises `StoreUnavailableError` when the subscription is not acknowledged in time.
        """
        box = self._boxes.add(channel)
        try:
            await self._subscribed(channel)
            yield box
        finally:
            was_last = self._boxes.remove(channel, box)
            if was_last and self._acks.pop(channel, None) is not None and self._valkey.connected.is_set():
                self._leaving[channel] += 1
                self._valkey.send(self._kinds.leave, channel)

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
        self._leaving.clear()
        self._boxes.mark_gaps()

    def _on_refusal(self, reply: str) -> None:
        """Send away whoever waits for an acknowledgement: an error does not say which subscription it refuses."""
        log.warning("the chunk store refused a subscription: %s", reply)
        for channel in [channel for channel, ack in self._acks.items() if not ack.done()]:
            self._lose(channel)

    def _on_push(self, push: list[Any]) -> None:
        kind = push[0]
        if kind == self._kinds.message:
            self._boxes.put(push[1].decode(), push[2])
        elif kind == self._kinds.joined:
            self._acknowledge(push[1].decode())
        elif kind == self._kinds.left:
            self._let_go(push[1].decode())

    def _acknowledge(self, channel: str) -> None:
        ack = self._acks.get(channel)
        if ack is not None and not ack.done():
            ack.set_result(True)
        self._boxes.mark_gap(channel)

    def _let_go(self, channel: str) -> None:
        """Take note of an end that we asked for; one that we did not ask for is its listeners' loss."""
        if not self._leaving[channel]:
            self._lose(channel)
        self._leaving -= Counter((channel,))

    def _lose(self, channel: str) -> None:
        ack = self._acks.pop(channel, None)
        if ack is not None and not ack.done():
            ack.set_result(False)
        self._boxes.lose(channel)
