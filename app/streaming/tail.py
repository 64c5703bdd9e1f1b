"""One XREAD a process over all the logs that it follows, many local listeners."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import hiredis

from app.streaming import keys
from app.streaming.box import Box, Boxes
from app.streaming.contract import StoreUnavailableError
from app.streaming.script import Script
from app.streaming.valkey import RefusedError, Valkey

log = logging.getLogger(__name__)

BLOCK_MS = 500
"""A read that finds nothing ends after this long: a quarter of what makes a silent server a dead one (`PATIENCE_S`)."""
REST_S, REST_PER_LOG_S = 1e-3, 3e-6
"""How long a process rests after a read that found something, at least, and for each log that it follows.

A read costs the server 0.7 µs a log when there is something to find, and as much again when it has to wait. So one
process takes at most a fifth of the server, and what comes meanwhile shares a read: ops/decisions/0017 has the figures.
"""
RETRY_S = 0.5
"""After a read that the server refused."""
WAKE = Script.load("wake")
HEAD = b"*%d\r\n" + hiredis.pack_command(("XREAD", "BLOCK", BLOCK_MS, "STREAMS")).partition(b"\r\n")[2]
BEGINNING = b"0-0"


class Tail:
    """Reads, on a connection of its own, what is new in any of the logs that somebody here follows.

    A log is read from a place that is known, so nothing can fall between two reads, however far they lie apart.
    """

    def __init__(self, boxes: Boxes, commands: Valkey) -> None:
        self._boxes, self._commands = boxes, commands
        self._wake = keys.wake_key(uuid4())
        self._names = dict[str, bytes]()
        self._places = dict[str, bytes]()
        self._is_waiting = self._is_woken = False
        for name in (self._wake, keys.STOPS_KEY):
            self._follow(name, BEGINNING)
        self._reads: Valkey

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str, commands: Valkey) -> AsyncIterator["Tail"]:
        """Own the reading connection for the length of the block; listeners who outlive it are told."""
        async with Boxes.minded() as boxes:
            tail = cls(boxes, commands)
            async with Valkey.connect(url) as tail._reads:
                reading = asyncio.create_task(tail._keep_reading())
                try:
                    yield tail
                finally:
                    reading.cancel()
                    await asyncio.gather(reading, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def listen(self, name: str) -> AsyncIterator[Box]:
        """Give a box that gets every entry stored in this log from now on. Raises `StoreUnavailableError`."""
        self._check()
        is_new = name not in self._places
        if is_new:
            self._follow(name, b"%d-0" % await self._commands.call("XLEN", name))
        box = self._boxes.add(name)
        try:
            if is_new:
                await self._end_wait()
            yield box
        finally:
            if self._boxes.remove(name, box):
                del self._names[name], self._places[name]

    @contextlib.asynccontextmanager
    async def listen_for_stop(self, task_id: UUID) -> AsyncIterator[Box]:
        """Give a box that gets a gap when this stream's id comes. Raises `StoreUnavailableError`."""
        self._check()
        name = str(task_id)
        box = self._boxes.add(name)
        try:
            yield box
        finally:
            self._boxes.remove(name, box)

    def _check(self) -> None:
        if not self._reads.connected.is_set():
            raise StoreUnavailableError("not connected to the chunk store; check REDIS_URL")

    def _follow(self, name: str, after: bytes) -> None:
        """Let the next read include a log, unless it does already."""
        self._names.setdefault(name, _packed(name.encode()))
        self._places.setdefault(name, _packed(after))

    async def _end_wait(self) -> None:
        """End the read that waits, since it does not include a log that has just been joined; one end does for all.

        The entry that ends it stays where it is: a read that has not reached the server yet ends as well.
        """
        if self._is_waiting and not self._is_woken:
            self._is_woken = True
            await self._commands.run(WAKE, (self._wake,), keys.SHARED_TTL_S)

    async def _keep_reading(self) -> None:
        """Read again and again; when that fails everybody looks into the log, and reading goes on where it was."""
        while True:
            await self._reads.connected.wait()
            self._boxes.mark_gaps()
            try:
                while True:
                    found = await self._read()
                    if found:
                        self._deliver(found)
                        await asyncio.sleep(max(REST_S, REST_PER_LOG_S * len(self._places)))
            except RefusedError as error:
                log.warning("can't read what is new: %s", error)
                await asyncio.sleep(RETRY_S)
            except StoreUnavailableError:
                self._boxes.mark_gaps()

    async def _read(self) -> Any:
        """Ask for what comes after all places, and wait for it: name -> entries, or nothing."""
        data = HEAD % (4 + 2 * len(self._places)) + b"".join(self._names.values()) + b"".join(self._places.values())
        self._is_waiting, self._is_woken = True, False
        try:
            return await self._reads.ask(data)
        finally:
            self._is_waiting = False

    def _deliver(self, found: dict[bytes, list[Any]]) -> None:
        for key, entries in found.items():
            name = key.decode()
            if name in self._places:
                self._places[name] = _packed(entries[-1][0])
            if name == keys.STOPS_KEY:
                for _, fields in entries:
                    self._boxes.mark_gap(fields[1].decode())
            else:
                for _, fields in entries:
                    self._boxes.put(name, fields[1])


def _packed(word: bytes) -> bytes:
    """Write one word of a command as it goes over the wire."""
    return b"$%d\r\n%b\r\n" % (len(word), word)
