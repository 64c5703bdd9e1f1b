"""The floor: Valkey publish → subscribe → socket write, and nothing else.

Two processes stand where the system's worker and API stand, with no log, no index, no lease, no database, no
framework: what a chunk costs here is what the machine, Valkey and asyncio take. Read a system's figures beside it.

`python -m loadtest.bench.floor serve VALKEY_URL PORT` and `... publish VALKEY_URL`.
"""

import asyncio
import sys
import time
from typing import cast
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import hiredis
import httptools
import msgspec
import uvloop

LOOPBACK = "127.0.0.1"
STARTS = b"floor:starts"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
RECORD = b'{"chunk_index":%d,"chunk_type":"%b","content":"%b","attempt":1,"deltas":1,"ts_ns":%d}'


class Subscriber(asyncio.Protocol):
    """One RESP connection: commands out, pushed messages in."""

    def __init__(self, heard: "Server | Publisher") -> None:
        self._reader, self._heard = hiredis.Reader(), heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, *words: bytes) -> None:
        """Send one command; its answer is not looked at."""
        self._transport.write(hiredis.pack_command(words))

    def data_received(self, data: bytes) -> None:
        """Hand each message on."""
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, list) and reply[0] == b"message":
                self._heard.message(reply[1], reply[2])


class Server:
    """Stands where the API stands."""

    def __init__(self) -> None:
        self.viewers: dict[bytes, asyncio.Transport] = {}
        self.pending: dict[bytes, bytes] = {}
        self.subscriber: Subscriber
        self.commands: Subscriber

    def message(self, channel: bytes, record: bytes) -> None:
        """Write a frame to the viewer of its channel."""
        viewer = self.viewers.get(channel)
        if viewer is None or viewer.is_closing():
            return
        viewer.write(b"data: %b\n\n" % record)
        if b'"chunk_type":"done"' in record:
            del self.viewers[channel]
            self.subscriber.send(b"UNSUBSCRIBE", channel)
            viewer.close()


class Visitor(asyncio.Protocol):
    """One HTTP connection of the load."""

    def __init__(self, server: Server) -> None:
        self._server, self._body = server, b""
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Know the path."""
        self._path, self._body = url, b""

    def on_body(self, data: bytes) -> None:
        """Gather the question."""
        self._body += data

    def on_message_complete(self) -> None:
        """Answer: an id for a POST, the stream for a GET."""
        server = self._server
        if self._path.startswith(b"/stream/"):
            task = self._path.removeprefix(b"/stream/")
            self._transport.write(STREAM_HEAD)
            server.viewers[task] = self._transport
            server.subscriber.send(b"SUBSCRIBE", task)
            server.commands.send(b"PUBLISH", STARTS, task + b" " + server.pending.pop(task))
            return
        task = str(uuid4()).encode()
        if self._path.endswith(b"/messages"):
            server.pending[task] = msgspec.json.decode(self._body)["model"].encode()
        answer = b'{"id":"%b","task_id":"%b"}' % (task, task)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))


class Publisher:
    """Stands where the model and the worker stand: publishes each stream on an absolute schedule."""

    def __init__(self) -> None:
        self.commands: Subscriber

    def message(self, _channel: bytes, started: bytes) -> None:
        """Begin a stream."""
        task, _, model = started.partition(b" ")
        pace = {name: float(values[0]) for name, values in parse_qs(model.decode().partition("?")[2]).items()}
        loop, chunks = asyncio.get_running_loop(), round(pace["chunks"])
        due = loop.time() + pace["ttft"]
        loop.call_at(due, self._tick, task, 0, chunks, due, pace["gap"])

    def _tick(self, task: bytes, index: int, chunks: int, due: float, gap: float) -> None:
        # uvloop's timers are of whole milliseconds: one that is half of one early is not worth a second wait.
        kind, text = (b"content", b"word ") if index < chunks else (b"done", b"")
        self.commands.send(b"PUBLISH", task, RECORD % (index, kind, text, time.time_ns()))
        if index < chunks:
            loop = asyncio.get_running_loop()
            loop.call_at(due + gap, self._tick, task, index + 1, chunks, due + gap, gap)


async def _connect(valkey_url: str, heard: "Server | Publisher") -> Subscriber:
    where = urlsplit(valkey_url)
    _, made = await asyncio.get_running_loop().create_connection(
        lambda: Subscriber(heard), where.hostname or LOOPBACK, where.port or 6379
    )
    if where.password:
        made.send(b"AUTH", where.password.encode())
    return made


async def serve(valkey_url: str, port: str) -> None:
    """Be the API's stand-in."""
    server = Server()
    server.subscriber, server.commands = await _connect(valkey_url, server), await _connect(valkey_url, server)
    listener = await asyncio.get_running_loop().create_server(
        lambda: Visitor(server), LOOPBACK, int(port), backlog=4096
    )
    await listener.serve_forever()


async def publish(valkey_url: str) -> None:
    """Be the worker's stand-in."""
    publisher = Publisher()
    publisher.commands, subscriber = await _connect(valkey_url, publisher), await _connect(valkey_url, publisher)
    subscriber.send(b"SUBSCRIBE", STARTS)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run((serve if sys.argv[1] == "serve" else publish)(*sys.argv[2:]))
