"""A Valkey or Redis Cluster: one lean connection and one subscription a node, and the map of who owns which slot.

All names of a stream carry its id as hash tag, so a stream lives on one node as a whole: its scripts stay atomic and
its sharded channel is published where it is stored. Nothing here knows streams; it only finds the node to ask.
"""

import asyncio
import contextlib
import logging
import random
from binascii import crc_hqx
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from app.streaming.box import Box
from app.streaming.contract import StoreUnavailableError
from app.streaming.hub import Hub
from app.streaming.script import Heard, Prepared, Script
from app.streaming.valkey import RefusedError, Valkey

log = logging.getLogger(__name__)

SLOTS = 16_384
REDIRECTS = 5
"""More than one node has to say for a slot that moves once: MOVED, then ASK, then MOVED again."""
LOOK_PAUSE_S = 0.1
"""Between two looks at the map, however many streams of a lost node ask for one."""


def slot_of(name: str) -> int:
    """Give the slot of a key or channel: that of what its first braces hold, if anything."""
    tag, closed, _ = name.partition("{")[2].partition("}")
    return crc_hqx((tag if closed and tag else name).encode(), 0) % SLOTS


@dataclass(frozen=True, slots=True)
class Node:
    """A node that owns slots, with what we hold open to it."""

    valkey: Valkey
    hub: Hub
    closing: contextlib.AsyncExitStack


class Cluster:
    """Commands and subscriptions, each on the node that owns its slot; the interface of `Valkey` and `Hub` together.

    A slot that has moved costs one redirect. A lost node fails its own streams with `StoreUnavailableError` until
    another owns their slots or it comes back; the streams of the others do not notice.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._nodes: dict[str, Node] = {}
        self._owners: list[str | None] = [None] * SLOTS
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["Cluster"]:
        """Own the connections to all nodes for the length of the block; `url` names any node, and how to log in."""
        cluster = cls(url)
        try:
            await cluster._look_again()
            yield cluster
        finally:
            if cluster._looking is not None:
                cluster._looking.cancel()
                await asyncio.gather(cluster._looking, return_exceptions=True)
            await cluster._leave(set(cluster._nodes))

    async def run(self, script: Script, keys: tuple[str, ...], *args: Any) -> Any:
        """Run a script on the node that owns its keys."""
        return await self._ask(keys[0], lambda valkey: valkey.run(script.sharded, keys, *args))

    def prepare(self, script: Script, keys: tuple[str, ...], *args: Any) -> Prepared:
        """Give a call of a script on whichever node owns its keys by then; a redirect is a refusal."""
        return Prepared(partial(self._begin, slot_of(keys[0])), script.sharded, keys, *args)

    def _begin(self, slot: int, data: bytes, heard: Heard) -> None:
        try:
            self._owner(slot).valkey.begin(data, heard)
        except StoreUnavailableError as error:
            asyncio.get_running_loop().call_soon(heard, error)

    async def call(self, *command: Any) -> Any:
        """Send one command to the node that owns its first key."""
        return await self._ask(command[1], lambda valkey: valkey.call(*command))

    @contextlib.asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[Box]:
        """Give a box that gets every message of a channel, from the node that owns it, for as long as it does.

        After that the box raises `StoreUnavailableError`, and listening anew finds the new owner.
        """
        try:
            async with self._owner(slot_of(channel)).hub.listen(channel) as box:
                yield box
        except StoreUnavailableError:
            self._look_again()
            raise

    async def _ask(self, name: str, request: Callable[[Valkey], Awaitable[Any]]) -> Any:
        slot = slot_of(name)
        try:
            node = self._owner(slot)
            for _ in range(REDIRECTS):
                try:
                    return await request(node.valkey)
                except RefusedError as error:
                    node = await self._redirected(slot, error)
        except StoreUnavailableError:
            self._look_again()
            raise
        raise StoreUnavailableError(f"slot {slot} kept moving during {REDIRECTS} requests; try again")

    async def _redirected(self, slot: int, error: RefusedError) -> Node:
        """Give the node that a refusal points to; raises the refusal itself if it points nowhere."""
        kind, *rest = error.reply.split()
        if kind not in {"MOVED", "ASK"}:
            raise error
        host, _, port = rest[1].rpartition(":")
        address = self._address(host, int(port))
        if address not in self._nodes:
            await asyncio.shield(self._look_again())
        if address not in self._nodes:
            await self._join(address)  # the node that we looked at does not know it yet
        if kind == "MOVED":
            self._owners[slot] = address
        node = self._nodes[address]
        if kind == "ASK":  # the slot is on its way there, and this opens the door for the next command only
            node.valkey.tell("ASKING")
        return node

    def _owner(self, slot: int) -> Node:
        address = self._owners[slot]
        if address is None or address not in self._nodes:
            raise StoreUnavailableError(f"no node of the cluster owns slot {slot}; see what CLUSTER SLOTS says")
        return self._nodes[address]

    def _look_again(self) -> "asyncio.Task[None]":
        """Look at the map soon, once for all who ask meanwhile."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return self._looking

    async def _look(self) -> None:
        """Bring the map up to date, and the connections with it; a failure leaves both as they are."""
        if self._nodes:
            await asyncio.sleep(LOOK_PAUSE_S)
        try:
            ranges = await self._ranges()
        except StoreUnavailableError as error:
            log.warning("can't read the cluster's map, going by the last one: %s", error)
            return
        owners: list[str | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_replicas in ranges:
            owners[first : last + 1] = [self._address((host or b"").decode(), port)] * (last + 1 - first)
        addresses = {address for address in owners if address}
        await asyncio.gather(*(self._join(address) for address in addresses - self._nodes.keys()))
        self._owners = owners
        await self._leave(self._nodes.keys() - addresses)

    async def _ranges(self) -> list[Any]:
        """Ask any node that answers for the map; the one that the URL names if none does."""
        connected = [node.valkey for node in self._nodes.values() if node.valkey.connected.is_set()]
        for valkey in random.sample(connected, len(connected)):
            with contextlib.suppress(StoreUnavailableError):
                return list(await valkey.call("CLUSTER", "SLOTS"))
        async with Valkey.connect(self._url) as valkey:
            return list(await valkey.call("CLUSTER", "SLOTS"))

    async def _join(self, address: str) -> None:
        url = self._url_at(address)
        async with contextlib.AsyncExitStack() as opened:
            valkey = await opened.enter_async_context(Valkey.connect(url))
            hub = await opened.enter_async_context(Hub.connect(url, sharded=True))
            if address not in self._nodes:  # else somebody was quicker
                self._nodes[address] = Node(valkey, hub, opened.pop_all())

    async def _leave(self, addresses: set[str]) -> None:
        for address in addresses:
            await self._nodes.pop(address).closing.aclose()

    def _address(self, host: str, port: int) -> str:
        """Name a node; one that does not know its own host is where the URL's is."""
        host = host or urlsplit(self._url).hostname or ""
        return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"

    def _url_at(self, address: str) -> str:
        """Reach another node as the URL reaches the first: same scheme, same login, same options."""
        parts = urlsplit(self._url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{address}").geturl()
