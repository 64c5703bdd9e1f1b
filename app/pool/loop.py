"""The loop's thread: startup, shutdown, and a watchdog that sees when the loop stands still."""

import asyncio
import contextvars
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import uvloop

logger = logging.getLogger(__name__)

Lifespan = Callable[[], AbstractAsyncContextManager[object]]
EXIT_FROZEN = 70
"""Exit code of a worker whose loop stood still for too long (EX_SOFTWARE of sysexits.h)."""


@dataclass(frozen=True, slots=True)
class Watch:
    """How the loop's lag is watched."""

    report: Callable[[float], None] | None = None
    """Gets the lag in seconds every `every_s`, and while the loop stands still. Called in two threads."""
    every_s: float = 0.25
    warn_s: float = 1.0
    """Log the stack of what holds the loop."""
    fatal_s: float | None = 20.0
    """End the process, so that its messages run elsewhere."""


class LoopThread:
    """One uvloop loop in a thread of its own, inside the lifespan. Start it once, stop it once."""

    loop: asyncio.AbstractEventLoop
    context: contextvars.Context
    """Context variables as the lifespan left them."""

    def __init__(self, lifespan: Lifespan, watch: Watch) -> None:
        self._lifespan, self._watch = lifespan, watch
        self._ready: Future[None] = Future()
        self._stopping = threading.Event()
        self._beat = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="asyncio-pool", daemon=True)

    def start(self) -> None:
        """Return when the lifespan has been entered; raise what its startup raised."""
        self._thread.start()
        self._ready.result()
        threading.Thread(target=self._watch_loop, name="asyncio-pool-watchdog", daemon=True).start()

    def stop(self, timeout_s: float) -> bool:
        """Leave the lifespan and end the thread. False if it did not within the time."""
        self._stopping.set()
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._leave.set)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                self.loop = runner.get_loop()
                runner.run(self._live())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
                return
            logger.critical("The pool's loop ended with an error", exc_info=True)
            if not self._stopping.is_set():
                os._exit(EXIT_FROZEN)  # tasks can no longer run: other workers get the messages

    async def _live(self) -> None:
        self._leave = asyncio.Event()
        async with self._lifespan():
            self.context = contextvars.copy_context()
            beating = asyncio.create_task(self._beat_on())
            self._ready.set_result(None)
            await self._leave.wait()
            beating.cancel()

    async def _beat_on(self) -> None:
        every = self._watch.every_s
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(every)
            self._report(time.monotonic() - self._beat - every)

    def _report(self, lag_s: float) -> None:
        if self._watch.report is not None:
            self._watch.report(max(lag_s, 0.0))

    def _watch_loop(self) -> None:
        """A frozen loop can't report on itself. Where this thread stood still with it, the process was stopped: then
        the loop is judged from when both went on."""
        warned, every_s = 0.0, self._watch.every_s
        since = looked = time.monotonic()
        while not self._stopping.wait(every_s):
            before, looked = looked, time.monotonic()
            if looked - before - every_s > self._watch.warn_s:
                since = looked
            beat = self._beat
            lag_s = looked - max(beat, since) - every_s
            if lag_s < self._watch.warn_s:
                continue
            self._report(lag_s)
            if warned != beat:
                warned = beat
                logger.error("The pool's loop stands still, every task waits. It is in:\n%s", self._stack())
            if self._watch.fatal_s is not None and lag_s > self._watch.fatal_s:
                logger.critical("The pool's loop stood still for %.1f s: ending the process", lag_s)
                logging.shutdown()
                os._exit(EXIT_FROZEN)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)) if frame else "(the thread has ended)"
