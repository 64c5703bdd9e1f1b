"""One connection to Valkey or Redis whose commands leave together and whose pushes arrive without a hop.

The commands of one loop tick leave in one write and their replies are matched in order, so a thousand streams cost
one system call a tick. redis-py makes the connection (address, TLS, authentication, RESP3 handshake); its streams
are then read by hiredis directly, since redis-py's own reply layer costs four times as much per message.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import Any

import hiredis
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.streaming.contract import StoreUnavailableError

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""A reply that takes longer means a dead or stopped server: the connection is dropped and made anew.

It bounds how long a paused server silences a viewer, and stays above what a sane one blocks for: a fork, an fsync.
"""
LOOKS = 4
"""How often within that time replies are looked at, so that a server's silence is noticed at most a quarter later."""
BACKOFF_S = (0.05, 2.0)
READ_BYTES = 1 << 16

Push = Callable[[list[Any]], None]


class Script:
    """Lua that is called by its hash."""

    def __init__(self, body: bytes) -> None:
        self.body, self.sha = body, sha1(body, usedforsecurity=False).hexdigest()

    @classmethod
    def load(cls, name: str) -> "Script":
        """Read a file of this package."""
        return cls((Path(__file__).parent / "lua" / f"{name}.lua").read_bytes())

    @cached_property
    def sharded(self) -> "Script":
        """The same for a cluster, where a message goes to the node that owns the channel's slot and to no other."""
        return Script(self.body.replace(b"'PUBLISH'", b"'SPUBLISH'"))


class RefusedError(StoreUnavailableError):
    """The server answered with an error, `reply`: it is full, it is loading, or it is not the one to ask."""

    def __init__(self, reply: str) -> None:
        super().__init__(f"the chunk store refused: {reply}")
        self.reply = reply


class Valkey:
    """A connection that mends itself. Calls made while it is away raise `StoreUnavailableError` at once."""

    def __init__(
        self,
        url: str,
        *,
        on_push: Push | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> None:
        self._pool = ConnectionPool.from_url(
            url, protocol=3, socket_connect_timeout=PATIENCE_S, health_check_interval=0
        )
        self._on_push, self._on_connect, self._on_loss, self._on_refusal = on_push, on_connect, on_loss, on_refusal
        self._out: list[bytes] = []
        self._replies: deque[asyncio.Future[Any]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._served = 0
        self.connected = asyncio.Event()
        self.losses = 0
        self.connected_at = 0.0

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        on_push: Push | None = None,
        on_connect: Callable[[], None] | None = None,
        on_loss: Callable[[], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
    ) -> AsyncIterator["Valkey"]:
        """Own a connection for the length of the block; it is made in the background and remade when lost."""
        valkey = cls(url, on_push=on_push, on_connect=on_connect, on_loss=on_loss, on_refusal=on_refusal)
        tasks = [asyncio.create_task(valkey._stay_connected()), asyncio.create_task(valkey._watch_replies())]
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await valkey.connected.wait()
            yield valkey
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            valkey._fail(StoreUnavailableError("the connection was closed"))

    def send(self, *command: Any) -> None:
        """Send a command that is answered by pushes only, such as SUBSCRIBE. Silent while disconnected."""
        if self._writer is not None:
            self._write(hiredis.pack_command(command))

    def tell(self, *command: Any) -> None:
        """Send a command whose reply nobody needs."""
        self._submit(hiredis.pack_command(command)).add_done_callback(_forget)

    async def call(self, *command: Any) -> Any:
        """Send one command and give its reply. Raises `StoreUnavailableError`; as `RefusedError` the server's own."""
        reply = await self._submit(hiredis.pack_command(command))
        if isinstance(reply, hiredis.ReplyError):
            raise RefusedError(str(reply))
        return reply

    async def run(self, script: Script, keys: tuple[str, ...], *args: Any) -> Any:
        """Run a script by its hash; the server learns its text the first time."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        try:
            return await self.call(*command)
        except RefusedError as error:
            if not error.reply.startswith("NOSCRIPT"):
                raise
        await self.call("SCRIPT", "LOAD", script.body)
        return await self.call(*command)

    def _submit(self, data: bytes) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._writer is None:
            future.set_exception(StoreUnavailableError("not connected to the chunk store; check REDIS_URL"))
            return future
        self._replies.append(future)
        self._write(data)
        return future

    def _write(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(data)

    async def _stay_connected(self) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
                try:
                    async with asyncio.timeout(PATIENCE_S):  # redis-py bounds the connect, but not the handshake
                        await connection.connect()
                    pause = BACKOFF_S[0]
                    # Private names of redis-py 7.4: the streams of a connection that finished its handshake.
                    await self._serve(connection._reader, connection._writer)
                finally:
                    await connection.disconnect(nowait=True)
            except (RedisError, hiredis.HiredisError, OSError, TimeoutError, EOFError) as error:
                log.warning("lost the chunk store, retrying in %.2f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        self._out, self._writer = [], writer
        self.connected_at = asyncio.get_running_loop().time()
        self.connected.set()
        try:
            if self._on_connect:
                self._on_connect()
            while data := await reader.read(READ_BYTES):
                parser.feed(data)
                while (reply := parser.gets()) is not False:
                    self._dispatch(reply)
        finally:
            self.connected.clear()
            self._writer = None
            self.losses += 1
            self._fail(StoreUnavailableError("the chunk store closed the connection"))
            if self._on_loss:
                self._on_loss()
        raise EOFError("connection closed by the server")

    def _dispatch(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if self._on_push:
                self._on_push(reply)
            return
        if self._on_refusal and isinstance(reply, hiredis.ReplyError):
            self._on_refusal(str(reply))  # of a command that `send` sent: nobody waits for a reply
            return
        self._served += 1
        future = self._replies.popleft()
        if not future.done():
            future.set_result(reply)

    def _fail(self, error: StoreUnavailableError) -> None:
        while self._replies:
            future = self._replies.popleft()
            if not future.done():
                future.set_exception(error)

    async def _watch_replies(self) -> None:
        """Drop a connection that owes a reply for too long; a ping keeps an idle one owing."""
        loop, pause, silent = asyncio.get_running_loop(), PATIENCE_S / LOOKS, 0
        while True:
            served, writer = self._served, self._writer
            if writer is not None and not self._replies:
                self.tell("PING")
            due = loop.time() + pause
            await asyncio.sleep(pause)
            if loop.time() - due > pause:  # it is this loop that stood still; replies may wait in the socket
                silent = 0
                continue
            owing = bool(self._replies) and self._served == served and writer is self._writer
            silent = silent + 1 if owing else 0
            if silent >= LOOKS and writer is not None:
                silent = 0
                writer.transport.abort()


def _forget(future: "asyncio.Future[Any]") -> None:
    if not future.cancelled():
        future.exception()
