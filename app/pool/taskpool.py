"""Celery's pool interface over the loop's thread."""

import asyncio
import contextlib
import contextvars
import logging
import os
import select
import socket
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from celery import _state
from celery.concurrency.base import BasePool
from celery.exceptions import CPendingDeprecationWarning, ImproperlyConfigured
from celery.utils.threads import USE_FAST_LOCALS
from celery.worker import state

from app.pool.bridge import is_bridged, off_loop, stack_ident
from app.pool.broker import ledger
from app.pool.config import PoolSettings
from app.pool.job import Call, Callbacks, Job, Outcome, Stop, put_back
from app.pool.loop import LoopThread

logger = logging.getLogger(__name__)


class TaskPool(BasePool):  # type: ignore[misc]  # Celery publishes no types
    """Runs each task as an asyncio task on one loop. Its methods belong to the consumer's thread unless said."""

    signal_safe = False
    is_green = False
    task_join_will_block = True
    uses_semaphore = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = self.app.conf.get("asyncio_pool")
        if not isinstance(settings, PoolSettings):
            raise ImproperlyConfigured("Call app.pool.configure(celery_app) before the worker starts")
        _refuse_what_cannot_work(self.app)
        self.settings = settings
        self.jobs: dict[str, Job] = {}
        self._thread = LoopThread(settings.lifespan, settings.watch)
        self._outbox: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._hub: Any = None
        self._deadline: float | None = None
        self._stopped = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop all jobs share."""
        return self._thread.loop

    @property
    def context(self) -> contextvars.Context:
        """Context variables as the lifespan left them."""
        return self._thread.context

    # Celery calls these.

    def on_start(self) -> None:
        """Enter the lifespan before the first message is fetched."""
        for task in self.app.tasks.values():
            task.request_stack.__ident_func__ = stack_ident
        _state._task_stack.__ident_func__ = stack_ident
        self.app.send_task = off_loop(self.app.send_task)
        warnings.filterwarnings(  # it advises to cancel tasks on a lost connection; here they keep their messages
            "ignore", category=CPendingDeprecationWarning, module=r"celery\.worker\.consumer"
        )
        self._thread.start()

    def register_with_event_loop(self, hub: Any) -> None:
        """Have the consumer's loop run what jobs post. Called again after each reconnect."""
        self._hub = hub
        hub.add_reader(self._wake_reader.fileno(), self._pump)

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        callback: Callable[..., Any],
        error_callback: Callable[..., Any],
        timeout_callback: Callable[..., Any],
        accept_callback: Callable[..., Any],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job | None:
        """Start a job, or let a redelivery join the one that runs its message already."""
        callbacks = Callbacks(callback, error_callback, timeout_callback)
        accept_callback(os.getpid(), time.monotonic())
        name, task_id, request = args[:3]
        tag = request["properties"]["delivery_tag"]
        if tag in ledger.done:
            self.post(self._settle_again, callbacks)
            return None
        job = self.jobs.get(tag)
        if job is not None:
            logger.info("Message of %s[%s] came again while it runs: it joins the running task", name, task_id)
            job.requests.append(callbacks)
            self.post(self._release_slot)
            return job
        call = Call(
            target,
            args,
            kwargs,
            blocks=not is_bridged(self.app.tasks[name]),
            name=f"{name}[{task_id}]",
            soft_limit_s=soft_timeout or self.options.get("soft_timeout"),
            hard_limit_s=timeout or self.options.get("timeout"),
        )
        job = self.jobs[tag] = Job(self, tag, call, [callbacks])
        self.loop.call_soon_threadsafe(job.start)
        return job

    def terminate_job(self, pid: int, signal: int | None = None) -> None:
        """Nothing: all jobs share the pid, and Celery calls the job's own `terminate` next."""

    def grow(self, n: int = 1) -> None:
        """Allow more tasks at once."""
        self.limit += n
        self.options["semaphore"].grow(n)

    def shrink(self, n: int = 1) -> None:
        """Allow fewer tasks at once; those that run go on."""
        self.limit -= n
        self.options["semaphore"].shrink(n)

    def on_stop(self) -> None:
        """Let tasks finish until the deadline, put the rest back, leave the lifespan."""
        self._close(0 if state.should_terminate else self.settings.drain_s)

    def on_terminate(self) -> None:
        """Put every running task back now."""
        self._close(0)

    def _get_info(self) -> dict[str, Any]:
        return {**super()._get_info(), "running": len(self.jobs)}

    # Jobs call these.

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Run it in the consumer's thread. From any thread."""
        self._outbox.append((function, args))
        with contextlib.suppress(BlockingIOError, OSError):  # a full pipe wakes the consumer just as well
            self._wake_writer.send(b"\0")

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Settle each delivery of the job and free its slot."""
        if job.abandoned:
            return
        del self.jobs[job.tag]
        try:
            for request in job.requests:
                outcome(request)
        finally:
            self._release_slot()

    # The rest is ours.

    def reconnected(self) -> None:
        """Take the slots of running jobs again: the consumer gave all of them back when it lost its connection."""
        semaphore = self.options["semaphore"]
        semaphore.value = max(semaphore.initial_value - len(self.jobs), 0)

    def _settle_again(self, request: Callbacks) -> None:
        request.success((0, None, 0.0))
        self._release_slot()

    def _release_slot(self) -> None:
        self.options["semaphore"].release()

    def _pump(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass
        while self._outbox:
            function, args = self._outbox.popleft()
            try:
                function(*args)
            except Exception:
                logger.exception("A task's end could not be processed; its message will come again")

    def _close(self, drain_s: float) -> None:
        if self._deadline is not None:  # a cold stop in the middle of a warm one
            self._deadline = min(self._deadline, time.monotonic() + drain_s)
            return
        self._deadline = time.monotonic() + drain_s
        self._drain()
        self._put_back_running()
        self._thread.stop(self.settings.cancel_grace_s)
        self._run_hub_callbacks()
        ledger.restore_at_shutdown = True
        self._wake_reader.close()
        self._wake_writer.close()

    def _drain(self) -> None:
        if self.jobs:
            logger.warning("Stopping: %d tasks have %.0f s to finish", len(self.jobs), self.settings.drain_s)
        while self.jobs and self._deadline is not None and time.monotonic() < self._deadline:
            self._turn()

    def _put_back_running(self) -> None:
        for job in self.jobs.values():
            job.request_stop(Stop.SHUTDOWN)
        patience = time.monotonic() + self.settings.cancel_grace_s
        while self.jobs and time.monotonic() < patience:
            self._turn()
        for job in tuple(self.jobs.values()):
            logger.error("%s ignores its cancellation: its message goes back while it may still run", job.call.name)
            self.finished(job, put_back())
            job.abandoned = True

    def _turn(self) -> None:
        """One turn of the consumer's loop without its sockets: no message is fetched any more."""
        self._run_hub_callbacks()
        readable = select.poll()
        readable.register(self._wake_reader, select.POLLIN)
        readable.poll(50)
        self._pump()
        self._run_hub_callbacks()

    def _run_hub_callbacks(self) -> None:
        if self._hub is None:
            return
        for callback in self._hub._pop_ready():
            try:
                callback()
            except Exception:
                logger.exception("An acknowledgement failed while stopping; its message will come again")
        try:
            self._hub.fire_timers()
        except Exception:
            logger.exception("A timer failed while stopping")


def _refuse_what_cannot_work(app: Any) -> None:
    if USE_FAST_LOCALS:
        raise ImproperlyConfigured("Unset USE_FAST_LOCALS: it would mix up the requests of tasks that share a thread")
    if app.conf.result_backend:
        raise ImproperlyConfigured("Unset result_backend: storing results blocks the loop. Let tasks store their own")
