"""One delivery while it runs: from the loop's first step to the callback that settles it."""

import asyncio
import contextvars
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject, Terminated

from app.pool.bridge import SoftLimitReached, own_context, run_in_greenlet, stack_ident

INSIST_EVERY_S = 1.0
"""A body that swallows a cancellation gets it again this often."""


class Stop(enum.StrEnum):
    """Why the pool cancelled a body."""

    REVOKED = "revoked"
    """Somebody revoked the task: end it for good."""
    SHUTDOWN = "shutdown"
    """The worker stops and its deadline has passed: the message goes back and the task runs again."""
    TIME_LIMIT = "time limit"
    """The hard limit: the task has already been reported as failed."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What Celery's request wants to hear, in the consumer's thread."""

    success: Callable[[Any], Any]
    failure: Callable[[Any], Any]
    timeout: Callable[[bool, float], Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What to run: Celery's tracer and its arguments."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    blocks: bool
    name: str
    soft_limit_s: float | None
    hard_limit_s: float | None


class Host(Protocol):
    """What a job needs of its pool."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop all jobs share."""

    @property
    def context(self) -> contextvars.Context:
        """What the lifespan left: each job starts with a copy."""

    def post(self, function: Callable[..., Any], *args: Any) -> None:
        """Run in the consumer's thread."""

    def finished(self, job: "Job", outcome: "Outcome") -> None:
        """Say, in the consumer's thread, that the job has ended."""


Outcome = Callable[[Callbacks], Any]
"""Settles one delivery through its callbacks."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Job:
    """A running task. Celery's request keeps a weak reference to it and calls `terminate` on a revoke."""

    host: Host
    tag: str
    call: Call
    requests: list[Callbacks]
    """The delivery it was started for, then the redeliveries which joined it."""
    stop: Stop | None = None
    abandoned: bool = False
    """Settled by the pool without waiting for its end."""
    _task: asyncio.Task[None] | None = None
    _soft_limit_hit: bool = False
    _timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def terminate(self, signal: int | None = None) -> None:  # noqa: ARG002  # Celery's name; all signals are one here
        """Cancel it because it was revoked. From any thread."""
        self.request_stop(Stop.REVOKED)

    def request_stop(self, why: Stop) -> None:
        """Cancel it. From any thread."""
        self.host.loop.call_soon_threadsafe(self._stop_now, why)

    def start(self) -> None:
        """Begin. In the loop's thread."""
        context = self.host.context.copy()
        context.run(own_context, self)
        self._task = self.host.loop.create_task(self._run(), name=self.call.name, context=context)

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        self._arm_limits()
        try:
            outcome = _lost(self.stop) if self.stop else await self._outcome()
        finally:
            for timer in self._timers:
                timer.cancel()
            self._task = None  # whose context holds this job: else both wait for a full collection
        self.host.post(self.host.finished, self, outcome)

    async def _outcome(self) -> Outcome:
        try:
            traced = await self._trace()
        except Reject as error:
            return _failed(error)
        except asyncio.CancelledError as error:
            return _lost(self.stop) if self.stop else _failed(error)
        except BaseException as error:  # SystemExit and the like must not end the loop
            return _failed(WorkerLostError(f"the task raised {error!r}"))
        failed = traced[0]
        if self.stop is Stop.SHUTDOWN and not failed:
            return lambda to: to.success(traced)
        return _lost(self.stop) if self.stop else lambda to: to.success(traced)

    async def _trace(self) -> Any:
        call = self.call
        if call.blocks:
            return await asyncio.to_thread(call.function, *call.args, **call.kwargs)
        return await run_in_greenlet(lambda: call.function(*call.args, **call.kwargs), self._translate)

    def _translate(self, error: BaseException) -> BaseException:
        if not self._soft_limit_hit or not isinstance(error, asyncio.CancelledError) or self._task is None:
            return error
        self._soft_limit_hit = False
        self._task.uncancel()
        return SoftLimitReached(self.call.soft_limit_s)

    def _stop_now(self, why: Stop) -> None:
        self.stop = self.stop or why
        if self._task is not None and not self._task.done():
            self._task.cancel(str(self.stop))
            self._timers.append(self.host.loop.call_later(INSIST_EVERY_S, self._stop_now, why))

    def _arm_limits(self) -> None:
        later = self.host.loop.call_later
        if self.call.soft_limit_s:
            self._timers.append(later(self.call.soft_limit_s, self._soft_limit))
        if self.call.hard_limit_s:
            self._timers.append(later(self.call.hard_limit_s, self._hard_limit))

    def _soft_limit(self) -> None:
        if self._task is None or self.stop:
            return
        self._soft_limit_hit = True
        self._task.cancel("soft time limit")
        self._tell_timeout(soft=True, limit_s=self.call.soft_limit_s)

    def _hard_limit(self) -> None:
        if self.stop:
            return
        self._stop_now(Stop.TIME_LIMIT)
        self._tell_timeout(soft=False, limit_s=self.call.hard_limit_s)

    def _tell_timeout(self, *, soft: bool, limit_s: float | None) -> None:
        for request in self.requests:
            self.host.post(request.timeout, soft, limit_s)


def stop_reason() -> Stop | None:
    """Why the pool cancelled the task this code runs in; None when it did not. For `except CancelledError` blocks."""
    owner = stack_ident()
    return owner.stop if isinstance(owner, Job) else None


def put_back() -> Outcome:
    """Reject the message, so that the broker delivers it again."""
    return _failed(Reject("the worker stopped", requeue=True))


def _lost(why: Stop | None) -> Outcome:
    if why is Stop.SHUTDOWN:
        return put_back()
    if why is Stop.REVOKED:
        return _failed(Terminated("revoked"))
    return lambda _to: None


def _failed(error: BaseException) -> Outcome:
    info = _describe(error)
    return lambda to: to.failure(info)


def _describe(error: BaseException) -> Any:
    try:
        raise error  # noqa: TRY301  # only a raised error has the traceback Celery reads
    except BaseException:
        return ExceptionInfo()
