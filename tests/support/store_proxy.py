"""A wire between the app and its chunk store that can be made bad: it is slow, or swallows published messages."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

MESSAGE = re.compile(rb">3\r\n\$7\r\nmessage\r\n\$(\d+)\r\n")
"""The beginning of a published message, as it goes to a subscriber in RESP3."""
SIZE = re.compile(rb"\$(\d+)\r\n")


class StoreProxy:
    """Passes everything on between a loopback port of its own and the server's."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.port = 0
        self.delay_s = 0.0
        """Of everything the server says."""
        self.swallow_every = 0
        """Of so many published messages one is lost; 0 loses none."""
        self._published = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            async with asyncio.TaskGroup() as both:
                both.create_task(self._ask(reader, to_server))
                both.create_task(self._answer(from_server, writer))
        for end in (writer, to_server):
            end.close()

    async def _ask(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            to_server.write(data)
        to_server.close()

    async def _answer(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop, rest = asyncio.get_running_loop(), b""
        waiting = asyncio.Queue[tuple[float, bytes]]()

        async def send() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(data)

        sending = asyncio.create_task(send())
        try:
            while data := await from_server.read(65536):
                passed, rest = self._without_lost(rest + data)
                waiting.put_nowait((loop.time() + self.delay_s, passed))
        finally:
            sending.cancel()
            writer.close()

    def _without_lost(self, data: bytes) -> tuple[bytes, bytes]:
        """What of this goes on, and what has to wait for the rest of its message."""
        if not self.swallow_every:
            return data, b""
        passed, place = b"", 0
        for head in MESSAGE.finditer(data):
            passed += data[place : head.start()]
            place = head.start()
            channel_end = head.end() + int(head[1]) + 2
            size = SIZE.match(data, channel_end)
            end = size.end() + int(size[1]) + 2 if size else len(data) + 1
            if end > len(data):
                return passed, data[place:]
            self._published += 1
            if self._published % self.swallow_every:
                passed += data[place:end]
            place = end
        return passed + data[place:], b""


@contextlib.contextmanager
def proxied(server_port: int) -> Iterator[StoreProxy]:
    """A proxy in front of this port for the length of the block, on a loop of its own."""
    proxy, ready, loop = StoreProxy(server_port), threading.Event(), asyncio.new_event_loop()
    over = asyncio.Event()

    async def run() -> None:
        server = await proxy.serve()
        ready.set()
        await over.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="store proxy")
    thread.start()
    try:
        assert ready.wait(10)
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
