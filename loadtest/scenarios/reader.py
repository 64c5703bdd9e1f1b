"""Reads one event stream in gevent's event loop itself, without a greenlet's switch for every chunk.

A greenlet that waited in `readline` was woken for each chunk and looked at each of its lines: 24 to 65 µs. Here the
loop calls us when bytes are there, all of them are read and parsed at once, and the greenlet sleeps to the end.
"""

import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import msgspec

from loadtest.recorder import Record, Recording
from loadtest.sse import Event, Parser
from loadtest.viewers import Slowness

READABLE = 1
AT_ONCE = 1 << 16
NEVER = 1 << 60
Note = Callable[[Event], None]
"""Takes one event. What it raises ends the stream."""
_decode = msgspec.json.Decoder(Record).decode


class WireError(Exception):
    """The server answered something that is not the contract; the text becomes the row's `error`."""


def noting(recording: Recording) -> Note:
    """Take events as streamgauge sends them."""

    def note(event: Event) -> None:
        try:
            record = _decode(event.data)
        except msgspec.MsgspecError as error:
            raise WireError(f"malformed record: {error}") from error
        recording.event(event, record)

    return note


class Reader:
    """One geventhttpclient response's events, recorded until its body ends or one has seen enough of it for now."""

    def __init__(self, response: Any, recording: Recording, note: Note) -> None:
        self._response, self._recording, self._note = response, recording, note
        self._parser = Parser()
        self._over = gevent.event.Event()
        self._error: BaseException | None = None
        self._last = time.monotonic()
        self._until = NEVER

    @property
    def comments(self) -> list[str]:
        """The comments seen so far."""
        return self._parser.comments

    def read(self, until: int = NEVER) -> bool:
        """Record events; True once the body has ended, False when `until` were recorded. Raises what broke it."""
        self._until = until
        try:
            self._take()  # what came with the headers
            if not self._enough:
                self._read()
        except BaseException:
            self.drop()  # of a connection that is in the middle of a body
            raise
        return bool(self._response.message_complete)

    def read_slowly(self, slowness: Slowness) -> None:
        """Record every event, taking few bytes at once and pausing after each time. Raises what broke it."""
        try:
            self._take()
            while not self._response.message_complete:
                gevent.sleep(slowness.pause_s)
                self._feed(self._response._sock.recv(slowness.bytes_at_once))
        except BaseException:
            self.drop()
            raise

    def drop(self) -> None:
        """Close the connection, unless its body has ended."""
        self._response.release()

    @property
    def _enough(self) -> bool:
        return self._response.message_complete or self._recording.events >= self._until

    def _read(self) -> None:
        if hasattr(self._response._sock, "pending"):
            self._read_in_turn()
        else:
            self._be_called()

    def _take(self) -> None:
        """Record the events in what the response has gathered."""
        gathered = self._response._body_buffer
        if not gathered:
            return
        body = bytes(gathered)
        del gathered[:]
        if self._recording.first_byte_ns is None:
            self._recording.first_byte_ns = time.time_ns()
        for event in self._parser.feed(body):
            self._note(event)

    def _be_called(self) -> None:
        """Be called by the loop whenever bytes are there; return once it is enough."""
        self._over.clear()
        patience, socket = self._response._sock.gettimeout(), self._response._sock._sock
        watcher = gevent.get_hub().loop.io(socket.fileno(), READABLE)
        watcher.start(self._readable, socket, watcher)
        try:
            while not self._over.wait(patience and max(0.0, self._last + patience - time.monotonic())):
                if time.monotonic() - self._last >= patience:
                    raise WireError("timeout: no bytes from the server")
        finally:
            watcher.stop()
            watcher.close()
        if self._error is not None:
            raise self._error

    def _read_in_turn(self) -> None:
        """The same over TLS, which may hold bytes that the socket no longer shows: the greenlet reads them itself."""
        while not self._enough:
            self._feed(self._response._sock.recv(AT_ONCE))

    def _readable(self, socket: Any, watcher: Any) -> None:
        # In the loop's own callback nothing may be raised and nothing may wait.
        try:
            self._last = time.monotonic()
            self._feed(socket.recv(AT_ONCE))
        except BlockingIOError:
            return
        except BaseException as error:
            self._error = error
        if self._error is not None or self._enough:
            watcher.stop()
            self._over.set()

    def _feed(self, data: bytes) -> None:
        self._response.feed(data)
        self._take()
        if not data and not self._response.message_complete:
            raise ConnectionError("the connection was closed in the middle of the stream")
