"""The one seam below ASGI: a viewer's way out of this process, through the socket itself where the server allows it.

An ASGI `send` costs a chunk an event-loop task's waking, four coroutines and a dict. uvicorn's protocol lets a frame be
written where it is heard, if that needs no waiting; whatever needs waiting still goes through `send`.
"""

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "streamgauge.socket"
NOBODY_WAITS = asyncio.Event()
"""For all open responses together, whose requests were read whole: an event for each of them is most of a kilobyte."""


class Outlet(Protocol):
    """One response's body on its way to its viewer, in the order of the calls, bounded by what the viewer takes."""

    async def send(self, data: bytes) -> None:
        """Send, waiting for room."""

    def offer(self, data: bytes) -> bool:
        """Send without waiting, by True; False when that can't be, and then nothing was sent."""

    def watch(self, left: Callable[[], None]) -> None:
        """Have `left` called when the viewer leaves; at once if that is the case."""

    def forget(self) -> None:
        """Call it no more."""


class Flow(FlowControl):
    """uvicorn's, but the event that a thousand open responses never wait for is made when one does."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False

    @cached_property
    def _is_writable_event(self) -> asyncio.Event:  # type: ignore[override]  # an attribute there
        event = asyncio.Event()
        if not self.write_paused:
            event.set()
        return event


class SocketProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which the app finds in its scope's extensions."""

    left: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begin a connection."""
        super().connection_made(transport)
        self.flow = Flow(transport)
        self._extensions = {EXTENSION: self}

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        extended: dict[str, Any] = self.scope  # type: ignore[assignment]  # uvicorn's type names no extensions of ours
        extended["extensions"] = self._extensions

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so to the view that is open on this connection; what was kept for it goes with its last user."""
        super().connection_lost(exc)
        self._extensions.clear()  # else scope and protocol hold each other until the next full collection
        if self.left is not None:
            self.left()

    def let_go(self) -> None:
        """Keep nothing that only a request needs: what its headers said, and the event that announces its body."""
        self.headers.clear()
        self.cycle.message_event = NOBODY_WAITS


def outlet_of(scope: Scope, receive: Receive, send: Send) -> Outlet:
    """Give the way out of a response whose start was sent."""
    protocol = scope.get("extensions", {}).get(EXTENSION)
    # Of HEAD, a body in one piece and a pipelined request's response uvicorn knows more than we do.
    if protocol is None or protocol.scope is not scope or not protocol.cycle.chunked_encoding:
        return AsgiOutlet(receive, send)
    protocol.let_go()
    return SocketOutlet(protocol, send)


class AsgiOutlet:
    """The way out through any ASGI server."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send

    async def send(self, data: bytes) -> None:
        """Send, waiting for room."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def offer(self, data: bytes) -> bool:  # noqa: ARG002 - the protocol's
        """Leave it: ASGI can't tell whether a send would wait."""
        return False

    def watch(self, left: Callable[[], None]) -> None:
        """Have `left` called when the viewer leaves."""
        self._waiting = asyncio.create_task(self._wait(left))

    def forget(self) -> None:
        """Call it no more."""
        self._waiting.cancel()

    async def _wait(self, left: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        left()


class SocketOutlet:
    """The way out through uvicorn's transport."""

    __slots__ = ("_flow", "_protocol", "_send", "_transport", "_write")

    def __init__(self, protocol: SocketProtocol, send: Send) -> None:
        self._protocol, self._send = protocol, send
        self._transport, self._flow, self._write = protocol.transport, protocol.flow, protocol.transport.write

    async def send(self, data: bytes) -> None:
        """Send, waiting for room."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    def offer(self, data: bytes) -> bool:
        """Write one HTTP chunk, unless the viewer has left or its socket is full."""
        if self._flow.write_paused or self._transport.is_closing():
            return False
        self._write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def watch(self, left: Callable[[], None]) -> None:
        """Have `left` called when the viewer leaves; at once if that is the case."""
        self._protocol.left = left
        if self._transport.is_closing():
            left()

    def forget(self) -> None:
        """Call it no more."""
        self._protocol.left = None
