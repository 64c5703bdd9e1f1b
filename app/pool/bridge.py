"""Where a synchronous caller meets a coroutine: greenlets that hand what they wait for to asyncio."""

import asyncio
import contextvars
import functools
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ParamSpec, TypeVar

import greenlet
from celery.exceptions import SoftTimeLimitExceeded

P = ParamSpec("P")
T = TypeVar("T")

Translate = Callable[[BaseException], BaseException]
"""What a body sees instead of an exception that reached its await."""

BRIDGED = "__asyncio_pool_task__"
"""Marks a function that `coroutine_task` made; autoretry's wrapper carries it on."""


class TaskGreenlet(greenlet.greenlet):  # type: ignore[misc]  # greenlet publishes no types
    """Runs synchronous code that may wait by `wait_for`. Shares the context variables of the asyncio task it serves."""

    def __init__(self, function: Callable[[], Any], translate: Translate) -> None:
        driver = greenlet.getcurrent()
        super().__init__(function, driver)
        self.gr_context = driver.gr_context
        self.translate = translate


def coroutine_task(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Let Celery call an `async def`. It goes under `@celery.task(...)`, so retries and errors see the body.

    In the pool the body is part of an ordinary asyncio task; elsewhere, say in `task.apply()`, `asyncio.run` runs it.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(greenlet.getcurrent(), TaskGreenlet):
            return wait_for(_body(function(*args, **kwargs)))
        return asyncio.run(function(*args, **kwargs))

    run.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # Celery checks arguments by it
    setattr(run, BRIDGED, True)
    return run


class SoftLimitReached(SoftTimeLimitExceeded, asyncio.CancelledError):  # type: ignore[misc]  # billiard has no types
    """A soft limit as the body meets it at its await.

    It is Celery's exception, so a body can catch it, and a cancellation, so TaskGroup and wait_for stop their children.
    """


class UnexpectedCancellationError(Exception):
    """The body raised CancelledError though nobody cancelled it. Await what it cancels inside a try block."""


async def _body(coroutine: Coroutine[Any, Any, T]) -> T:
    """Celery's tracer takes a bare CancelledError for the end of the process, so only ours may pass as such."""
    task = asyncio.current_task()
    assert task is not None
    try:
        return await coroutine
    except SoftLimitReached as error:
        raise SoftTimeLimitExceeded(*error.args) from None
    except asyncio.CancelledError as error:
        if task.cancelling():
            raise
        raise UnexpectedCancellationError(str(error)) from error


async def run_in_greenlet(function: Callable[[], T], translate: Translate) -> T:
    """Await synchronous code: each time it waits, the loop runs other tasks."""
    child = TaskGreenlet(function, translate)
    out = child.switch()
    while not child.dead:
        try:
            answer = await _hand_out(out)
        except BaseException as error:  # it is the child's to see
            out = child.throw(error)
        else:
            out = child.switch(answer)
    return out  # type: ignore[no-any-return]


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine from inside a `TaskGreenlet`; what it yields, asyncio sees unchanged."""
    here: TaskGreenlet = greenlet.getcurrent()
    resume: Callable[[], Any] = functools.partial(coroutine.send, None)
    while True:
        try:
            waited = resume()
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            answer = here.parent.switch(waited)
        except BaseException as error:  # it is the coroutine's to see
            resume = functools.partial(coroutine.throw, here.translate(error))
        else:
            resume = functools.partial(coroutine.send, answer)


def off_loop(function: Callable[P, T]) -> Callable[P, T]:
    """Make a blocking call of Celery's wait in a thread when a task on the loop makes it."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(greenlet.getcurrent(), TaskGreenlet):
            return wait_for(asyncio.to_thread(function, *args, **kwargs))
        return function(*args, **kwargs)

    return call


def is_bridged(task: Any) -> bool:
    """True for a task whose body is a coroutine; any other would block the loop."""
    return bool(getattr(task.run, BRIDGED, False))


@types.coroutine
def _hand_out(waited: Any) -> Generator[Any, Any, Any]:
    return (yield waited)


_owner: contextvars.ContextVar[object] = contextvars.ContextVar("asyncio_pool_owner")


def own_context(owner: object) -> None:
    """From here on this context, and the asyncio tasks started in it, count as `owner` in Celery's stacks."""
    _owner.set(owner)


def stack_ident() -> object:
    """Key of Celery's task and request stacks: the pool's task wherever one runs, else the greenlet as before."""
    return _owner.get(None) or greenlet.getcurrent()
