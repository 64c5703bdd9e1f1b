"""A Celery application for the pool's tests: `python -m celery -A tests.support.pool_app worker`.

Each task appends lines `EVENT ID` to the file POOL_TEST_LOG, which is all a test looks at, and waits for files
in the directory POOL_TEST_GATES, by which a test lets tasks go on.
"""

import asyncio
import contextlib
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from celery import current_task as celery_current_task
from celery import signals
from celery.exceptions import SoftTimeLimitExceeded

from app import pool
from app.broker import make_celery
from app.pool.job import Job
from app.pool.loop import Watch
from tests.support.garbage import living

LOG = Path(os.environ["POOL_TEST_LOG"])
GATES = Path(os.environ["POOL_TEST_GATES"])
SETTINGS: dict[str, Any] = json.loads(os.environ.get("POOL_TEST_SETTINGS", "{}"))
BROKEN = SETTINGS.pop("broken_lifespan", False)
WATCH: dict[str, Any] = SETTINGS.pop("watch", {})
resource: ContextVar[str] = ContextVar("resource")
mine: ContextVar[str] = ContextVar("mine")


def note(event: str, name: object = "") -> None:
    with LOG.open("a") as log:
        log.write(f"{event} {name}\n")


@contextlib.asynccontextmanager
async def lifespan() -> AsyncIterator[None]:
    if BROKEN:
        raise RuntimeError("the database does not answer")
    note("lifespan-entered", os.getpid())
    resource.set("opened")
    try:
        yield
    finally:
        note("lifespan-left", os.getpid())


def lag_seen(lag_s: float) -> None:
    if lag_s > 0.3:
        note("lag", f"{lag_s:.2f}")


celery = make_celery(os.environ["POOL_TEST_BROKER"])
pool.configure(celery, lifespan=lifespan, watch=Watch(report=lag_seen, **WATCH), **SETTINGS)


def note_signal(name: str, signal: Any) -> None:
    """Note each time that Celery sends this signal, with the id of the task that it is about."""

    def noted(sender: Any = None, task_id: str | None = None, request: Any = None, **_: Any) -> None:
        note(f"signal-{name}", task_id or (request or sender.request).id)

    signal.connect(noted, weak=False)


for moment in ("prerun", "postrun", "success", "failure", "retry", "revoked"):
    note_signal(moment, getattr(signals, f"task_{moment}"))


def task(**options: Any) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Any]:
    """`@celery.task` over `@pool.coroutine_task`."""
    return lambda function: celery.task(bind=True, **options)(pool.coroutine_task(function))


async def gate(name: str) -> None:
    while not (GATES / name).exists():  # noqa: ASYNC110  # a test opens it from another process
        await asyncio.sleep(0.02)


@task()
async def check_context(self: Any, number: int) -> None:
    """Everything a task may rely on, looked at again after each of several waits."""
    mine.set(self.request.id)
    task = asyncio.current_task()

    async def child() -> bool:
        await asyncio.sleep(0)
        return bool(self.request.id == mine.get())

    for _ in range(5):
        await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(child())
        right = [
            self.request.id == mine.get(),
            self.request.args == [number],
            celery_current_task.request.id == self.request.id,
            asyncio.current_task() is task,
            answer.result(),
            resource.get() == "opened",
        ]
        if not all(right):
            note("wrong", right)
            return
    note("right", self.request.id)


@task()
async def hold(self: Any, gate_name: str) -> None:
    """Wait for a gate."""
    note("start", self.request.id)
    try:
        await gate(gate_name)
    except asyncio.CancelledError:
        note("cancelled", f"{self.request.id} {pool.stop_reason()}")
        raise
    note("end", self.request.id)


@task()
async def times_out(self: Any) -> None:
    """`asyncio.timeout` in a body is the body's own."""
    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(30)
    except TimeoutError:
        note("timed-out", self.request.id)


@task(soft_time_limit=0.2)
async def soft_limited(self: Any) -> None:
    """The soft limit arrives at the await, children included."""

    async def child() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            note("child-stopped", self.request.id)
            raise

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
    except SoftTimeLimitExceeded:
        note("soft-limit", self.request.id)
        await asyncio.sleep(0.01)
        current = asyncio.current_task()
        note("cleaned-up", f"{self.request.id} {current and current.cancelling()}")


@task(time_limit=0.3)
async def hard_limited(self: Any) -> None:
    """The hard limit ends it."""
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        note("hard-limit", f"{self.request.id} {pool.stop_reason()}")
        raise


class FlakyError(Exception):
    pass


@task(autoretry_for=(FlakyError,), max_retries=3, default_retry_delay=0)
async def flaky(self: Any) -> None:
    """Fail twice, then succeed."""
    await asyncio.sleep(0)
    note("try", f"{self.request.id} {self.request.retries}")
    if self.request.retries < 2:
        raise FlakyError


@task()
async def stray_cancel(self: Any) -> None:
    """Raise CancelledError though nobody cancelled."""
    note("start", self.request.id)
    raise asyncio.CancelledError


@task()
async def freeze(self: Any, seconds: float) -> None:
    """Block the loop, which no task should, unless it did so before."""
    note("start", self.request.id)
    if not self.request.delivery_info["redelivered"]:
        time.sleep(seconds)  # noqa: ASYNC251
    note("end", self.request.id)


@task()
async def stubborn(self: Any) -> None:
    """Swallow every cancellation."""
    note("start", self.request.id)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)


@celery.task(bind=True)  # type: ignore[untyped-decorator]
def blocking(self: Any, gate_name: str) -> None:
    """A plain function."""
    note("start", self.request.id)
    while not (GATES / gate_name).exists():
        time.sleep(0.02)
    note("end", self.request.id)


@task()
async def short(self: Any) -> None:
    """Do nothing, for measurements."""
    await asyncio.sleep(0)
    note("end", self.request.id)


@task()
async def counts_jobs(self: Any, collect: bool) -> None:
    """Say how many deliveries are in memory: after a collection, from which on there is none, or before the next."""
    if collect:
        gc.collect()
        gc.disable()
    note("jobs", f"{self.request.id} {living(Job)}")
    if not collect:
        gc.enable()


@task()
async def nests_greenlets(self: Any) -> None:
    """SQLAlchemy's asyncio extension runs its drivers this way."""
    from sqlalchemy.util.concurrency import await_only, greenlet_spawn  # no other task should wait for it

    answer = await greenlet_spawn(lambda: await_only(asyncio.sleep(0.01, self.request.id)))
    note("nested", answer)
