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
from functools import partial
from typing import Any

import hiredis
from prometheus_client import Histogram
from redis.exceptions import RedisError

from app.redis_pool import pool_to
from app.streaming.contract import StoreUnavailableError
from app.streaming.script import Heard, Prepared, Script
from app.telemetry import metrics

log = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""A reply that takes longer means a dead or stopped server: the connection is dropped and made anew.

It bounds how long a paused server silences a viewer, and stays above what a sane one blocks for: a fork, an fsync.
"""
LOOKS = 4
"""How often within that time replies are looked at, so that a server's silence is noticed at most a quarter later."""
BACKOFF_S = (0.05, 2.0)
READ_ONLY = "READONLY "
"""How a server refuses that was the master: the connection is made anew, to whoever is that now."""

Push = Callable[[list[Any]], None]


def _ignore(_reply: Any) -> None:
    """Hear nothing."""


class Wire(asyncio.Protocol):
    """The bytes of one connection: replies and pushes are dispatched as they are read."""

    def __init__(self, dispatch: Callable[[Any], None]) -> None:
        self._parser, self._dispatch = hiredis.Reader(), dispatch
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Dispatch what came; a listener that fails costs nobody else anything."""
        self._parser.feed(data)
        while True:
            try:
                reply = self._parser.gets()
            except hiredis.HiredisError as error:
                self._end(error)
                return
            if reply is False:
                return
            try:
                self._dispatch(reply)
            except Exception:
                log.exception("a listener of the chunk store's connection failed")

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end(exc or EOFError("connection closed by the server"))

    def _end(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


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
        lag: Histogram | None = None,
    ) -> None:
        self._pool = pool_to(url, protocol=3, socket_connect_timeout=PATIENCE_S, health_check_interval=0)
        self._on_push, self._on_connect, self._on_loss, self._on_refusal = on_push, on_connect, on_loss, on_refusal
        self._lag = lag
        self._out: list[bytes] = []
        self._replies: deque[Heard] = deque()
        self._transport: asyncio.Transport | None = None
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
        lag: Histogram | None = None,
    ) -> AsyncIterator["Valkey"]:
        """Own a connection for the length of the block; it is made in the background and remade when lost."""
        valkey = cls(url, on_push=on_push, on_connect=on_connect, on_loss=on_loss, on_refusal=on_refusal, lag=lag)
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
        if self._transport is not None:
            self._write(hiredis.pack_command(command))

    def tell(self, *command: Any, heard: Heard = _ignore) -> None:
        """Send a command whose reply nobody waits for."""
        self.begin(hiredis.pack_command(command), heard)

    async def call(self, *command: Any) -> Any:
        """Send one command and give its reply. Raises `StoreUnavailableError`; as `RefusedError` the server's own."""
        return await self.ask(hiredis.pack_command(command))

    async def ask(self, data: bytes) -> Any:
        """Send one packed command and give its reply, as `call` does."""
        reply = await self._submit(data)
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

    def prepare(self, script: Script, keys: tuple[str, ...], *args: Any) -> Prepared:
        """Give a call of a script that needs no waiting, and is not taught: an unknown script is a refusal."""
        return Prepared(self.begin, script, keys, *args)

    def begin(self, data: bytes, heard: Heard) -> None:
        """Send one packed command without waiting; `heard` gets what comes of it."""
        if self._transport is None:
            lost = StoreUnavailableError("not connected to the chunk store; check REDIS_URL")
            asyncio.get_running_loop().call_soon(heard, lost)
            return
        self._replies.append(heard)
        self._write(data)

    def _submit(self, data: bytes) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begin(data, partial(_settle, future))
        return future

    def _write(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def _stay_connected(self) -> None:
        pause = BACKOFF_S[0]
        while True:
            try:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
                try:
                    async with asyncio.timeout(PATIENCE_S):  # redis-py bounds the connect, but not the handshake
                        await connection.connect()
                    pause = BACKOFF_S[0]
                    # A private name of redis-py 7.4: the writer of a connection that finished its handshake.
                    await self._serve(connection._writer.transport)
                finally:
                    await connection.disconnect(nowait=True)
            except (RedisError, hiredis.HiredisError, OSError, TimeoutError, EOFError) as error:
                log.warning("lost the chunk store, retrying in %.2f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, BACKOFF_S[1])

    async def _serve(self, transport: asyncio.Transport) -> None:
        wire = Wire(self._dispatch)
        transport.set_protocol(wire)
        self._out, self._transport = [], transport
        self.connected_at = asyncio.get_running_loop().time()
        metrics.STORE_RECONNECTS.inc(self.losses > 0)
        self.connected.set()
        try:
            if self._on_connect:
                self._on_connect()
            await wire.ended
        finally:
            self.connected.clear()
            self._transport = None
            self.losses += 1
            self._fail(StoreUnavailableError("the chunk store closed the connection"))
            if self._on_loss:
                self._on_loss()

    def _dispatch(self, reply: Any) -> None:
        if isinstance(reply, hiredis.PushNotification):
            if self._on_push:
                self._on_push(reply)
            return
        if isinstance(reply, hiredis.ReplyError):
            if READ_ONLY in str(reply) and self._transport is not None:
                self._transport.abort()
            if self._on_refusal:
                self._on_refusal(str(reply))  # of a command that `send` sent: nobody waits for a reply
                return
        self._served += 1
        self._replies.popleft()(reply)

    def _fail(self, error: StoreUnavailableError) -> None:
        replies, self._replies = self._replies, deque()
        for heard in replies:
            try:
                heard(error)
            except Exception:
                log.exception("a listener of the chunk store's connection failed")

    async def _watch_replies(self) -> None:
        """Drop a connection that owes a reply for too long; a ping keeps an idle one owing."""
        loop, pause, silent = asyncio.get_running_loop(), PATIENCE_S / LOOKS, 0
        while True:
            served, transport = self._served, self._transport
            if transport is not None and not self._replies:
                self.tell("PING", heard=partial(self._hear_pong, loop.time()))
            due = loop.time() + pause
            await asyncio.sleep(pause)
            metrics.STORE_OPERATIONS.inc(self._served - served)
            if loop.time() - due > pause:  # it is this loop that stood still; replies may wait in the socket
                silent = 0
                continue
            owing = bool(self._replies) and self._served == served and transport is self._transport
            silent = silent + 1 if owing else 0
            if silent >= LOOKS and transport is not None:
                silent = 0
                transport.abort()

    def _hear_pong(self, asked: float, reply: Any) -> None:
        """Observe how long a ping's answer took; it came behind every push that waited in the server."""
        if self._lag is not None and isinstance(reply, (bytes, str)):
            self._lag.observe(asyncio.get_running_loop().time() - asked)


def _settle(future: "asyncio.Future[Any]", reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, StoreUnavailableError):
        future.set_exception(reply)
    else:
        future.set_result(reply)
