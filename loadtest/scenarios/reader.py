"""Reads one event stream in gevent's event loop itself, without a greenlet's switch for every chunk.

A greenlet that waited in `readline` was woken for each chunk and looked at each of its lines: 24 to 65 µs. Here the
loop calls us when bytes are there, all of them are read and parsed at once, and the greenlet sleeps to the end.
"""

import time
from typing import Any

import gevent
import gevent.event
import msgspec

from loadtest.recorder import Record, Recording
from loadtest.sse import Parser

READABLE = 1
AT_ONCE = 1 << 16
_decode = msgspec.json.Decoder(Record).decode


class WireError(Exception):
    """The server answered something that is not the contract; the text becomes the row's `error`."""


def read(response: Any, recording: Recording) -> None:
    """Record every event of this geventhttpclient response until its body ends. Raises what broke it."""
    stream = _Stream(response, recording)
    try:
        stream.take()  # what came with the headers
        if hasattr(response._sock, "pending"):
            stream.wait_in_turn()
        else:
            stream.wait()
    except BaseException:
        response.release()  # closes a connection that is in the middle of a body
        raise
    finally:
        recording.comments = stream.comments


class _Stream:
    def __init__(self, response: Any, recording: Recording) -> None:
        self._response, self._recording = response, recording
        self._parser = Parser()
        self._over = gevent.event.Event()
        self._error: BaseException | None = None
        self._last = time.monotonic()

    @property
    def comments(self) -> list[str]:
        return self._parser.comments

    def take(self) -> None:
        """Record the events in what the response has gathered."""
        gathered = self._response._body_buffer
        if not gathered:
            return
        body = bytes(gathered)
        del gathered[:]
        if self._recording.first_byte_ns is None:
            self._recording.first_byte_ns = time.time_ns()
        for event in self._parser.feed(body):
            try:
                record = _decode(event.data)
            except msgspec.MsgspecError as error:
                raise WireError(f"malformed record: {error}") from error
            self._recording.event(event, record)

    def wait(self) -> None:
        """Be called by the loop whenever bytes are there; return once the body has ended."""
        if self._response.message_complete:
            return
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

    def wait_in_turn(self) -> None:
        """The same over TLS, which may hold bytes that the socket no longer shows: the greenlet reads them itself."""
        while not self._response.message_complete:
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
        if self._error is not None or self._response.message_complete:
            watcher.stop()
            self._over.set()

    def _feed(self, data: bytes) -> None:
        self._response.feed(data)
        self.take()
        if not data and not self._response.message_complete:
            raise ConnectionError("the connection was closed in the middle of the stream")
