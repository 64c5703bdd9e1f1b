"""What a task may rely on in the pool: it is an ordinary asyncio task and an ordinary Celery task at once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from app import pool
from tests.support.pool_worker import Workers, pool_workers
from tests.support.waiting import until


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    """One worker for all tests here: none of them disturbs another."""
    with pool_workers(concurrency=200, drain_s=1, cancel_grace_s=1) as workers:
        workers.start()
        yield workers


def test_hundreds_of_tasks_interleave_and_each_keeps_its_own_context(workers: Workers) -> None:
    """`self.request`, `current_task`, context variables and child tasks are right after every wait."""
    sent = {workers.send("check_context", number) for number in range(300)}
    until(lambda: {f"right {task_id}" for task_id in sent} <= set(workers.events()), "all 300 are right")
    assert workers.count("wrong") == 0


def test_asyncio_timeout_and_greenlets_work_in_a_body(workers: Workers) -> None:
    """A body's own timeout is its own, and SQLAlchemy's way of calling async drivers nests."""
    timed, nested = workers.send("times_out"), workers.send("nests_greenlets")
    workers.wait_for(f"timed-out {timed}")
    workers.wait_for(f"nested {nested}")


def test_a_retry_runs_the_body_again_under_the_same_id(workers: Workers) -> None:
    """Celery's autoretry sees the coroutine's exception, and its message is not taken for a redelivery."""
    task_id = workers.send("flaky")
    workers.wait_for(f"try {task_id} 2")
    assert [workers.count(f"try {task_id} {number}") for number in range(4)] == [1, 1, 1, 0]


def signals_of(workers: Workers, task_id: str) -> list[str]:
    """What Celery signalled about this task, in order."""
    words = [line.split() for line in workers.events()]
    return [name.removeprefix("signal-") for name, *rest in words if name.startswith("signal-") and rest == [task_id]]


@pytest.mark.parametrize(("name", "args", "end"), [("check_context", (1,), "success"), ("stray_cancel", (), "failure")])
def test_celerys_signals_are_sent_as_by_its_own_pools(
    workers: Workers, name: str, args: tuple[int, ...], end: str
) -> None:
    """Each once, in their order, in the worker's process: what an application hangs on them works."""
    task_id = workers.send(name, *args)
    workers.wait_for(f"signal-postrun {task_id}")
    assert signals_of(workers, task_id) == ["prerun", end, "postrun"]


def test_each_retry_is_signalled(workers: Workers) -> None:
    """By the try that failed; the next may begin before it has said so."""
    task_id = workers.send("flaky")
    workers.wait_for(f"signal-postrun {task_id}", 3)
    assert Counter(signals_of(workers, task_id)) == {"prerun": 3, "retry": 2, "success": 1, "postrun": 3}


def test_a_revoked_task_is_signalled_as_such(workers: Workers) -> None:
    """Once, whether it runs or waits in the worker for its time; the latter never begins."""
    running = workers.send("hold", "never")
    workers.wait_for(f"start {running}")
    workers.client.control.revoke(running, terminate=True)
    workers.wait_for(f"signal-revoked {running}")
    waiting = workers.send("hold", "never", countdown=4)  # Celery signals it only then
    until(lambda: f"[{waiting}] received" in workers.output(), "the worker has it")
    workers.client.control.revoke(waiting)
    workers.wait_for(f"signal-revoked {waiting}")
    assert signals_of(workers, waiting) == ["revoked"]
    assert signals_of(workers, running).count("revoked") == 1
    assert not {"success", "failure"} & {*signals_of(workers, running)}


def active_in(workers: Workers) -> dict[str, str]:
    """Name by id of the tasks that the worker runs, by its own word: `celery inspect active`."""
    answers = workers.client.control.inspect().active() or {}
    return {task["id"]: task["name"] for tasks in answers.values() for task in tasks}


def test_inspect_active_names_what_runs_and_nothing_else(workers: Workers) -> None:
    """As many as are at work, and none of them once they have ended."""
    ids = {workers.send("hold", "inspected") for _ in range(10)}
    for task_id in ids:
        workers.wait_for(f"start {task_id}")
    active = active_in(workers)
    assert ids <= set(active)
    assert {active[task_id] for task_id in ids} == {"tests.support.pool_app.hold"}
    workers.open_gate("inspected")
    until(lambda: not ids & set(active_in(workers)), "they have ended, and the worker says so")


def test_a_stray_cancellation_is_a_failure_like_any_other(workers: Workers) -> None:
    """A body that raises CancelledError by itself fails and is acknowledged; the loop lives on."""
    task_id = workers.send("stray_cancel")
    workers.wait_for(f"start {task_id}")
    until(lambda: f"{task_id}] raised unexpected: UnexpectedCancellationError" in workers.output(), "it failed")
    test_asyncio_timeout_and_greenlets_work_in_a_body(workers)


def test_a_plain_function_runs_in_a_thread_and_holds_nobody_up(workers: Workers) -> None:
    """A `def` task may block; coroutines go on meanwhile."""
    task_id = workers.send("blocking", "plain")
    workers.wait_for(f"start {task_id}")
    test_asyncio_timeout_and_greenlets_work_in_a_body(workers)
    workers.open_gate("plain")
    workers.wait_for(f"end {task_id}")


def test_revoking_with_terminate_cancels_the_body_for_good(workers: Workers) -> None:
    """The body sees CancelledError with the reason, and the message is acknowledged."""
    task_id = workers.send("hold", "never")
    workers.wait_for(f"start {task_id}")
    workers.client.control.revoke(task_id, terminate=True)
    workers.wait_for(f"cancelled {task_id} revoked")
    assert workers.count(f"end {task_id}") == 0


def test_a_soft_limit_reaches_the_body_at_its_await_and_stops_its_children(workers: Workers) -> None:
    """The body catches SoftTimeLimitExceeded and may still await while it cleans up, cancelled no more."""
    task_id = workers.send("soft_limited")
    workers.wait_for(f"cleaned-up {task_id} 0")
    assert workers.count(f"child-stopped {task_id}") == 1
    assert workers.count(f"soft-limit {task_id}") == 1


def test_a_hard_limit_cancels_the_body(workers: Workers) -> None:
    """Celery reports the failure at once; the body learns why it was cancelled."""
    task_id = workers.send("hard_limited")
    workers.wait_for(f"hard-limit {task_id} time limit")
    until(lambda: "Hard time limit (0.3s) exceeded" in workers.output(), "Celery says so")


def test_everything_that_has_ended_is_acknowledged() -> None:
    """However a task ends, its message is gone, and no more run at once than `concurrency` says."""
    with pool_workers(concurrency=3) as workers:
        workers.start()
        for name in ("check_context", "stray_cancel", "flaky", "soft_limited", "hard_limited"):
            workers.send(name, *([1] if name == "check_context" else []))
        workers.wait_settled()
        before = workers.count("start")
        for _ in range(5):
            workers.send("hold", "gate")
        workers.wait_for("start", before + 3)
        until(lambda: workers.queued() == 2, "two wait in the queue")
        workers.open_gate("gate")
        workers.wait_for("end", 5)
        workers.wait_settled()


def test_outside_the_pool_a_task_runs_under_asyncio_run() -> None:
    """`task.apply()` works in a test or a shell, with errors passed on."""
    celery: Any = Celery("eager")
    celery.conf.update(task_ignore_result=True)

    async def double(number: int) -> int:
        await asyncio.sleep(0)  # needs a loop that runs
        return 2 * number

    task = celery.task(pool.coroutine_task(double))
    assert task.apply(args=[21]).get() == 42
    assert pool.stop_reason() is None


def test_arguments_are_checked_against_the_coroutine() -> None:
    """`apply_async` refuses a wrong call at once, as for a plain function."""

    async def body(number: int) -> None: ...

    task = Celery("typed").task(pool.coroutine_task(body))
    with pytest.raises(TypeError, match="number"):
        task.apply_async()


def jobs_in_memory(workers: Workers, *, collect: bool) -> int:
    task_id = workers.send("counts_jobs", collect)
    workers.wait_for(f"jobs {task_id}")
    return next(int(line.split()[2]) for line in workers.events() if line.startswith(f"jobs {task_id} "))


def test_what_has_ended_is_freed_without_a_collection(workers: Workers) -> None:
    """A delivery, and all that its stream took, waits for no full collection, which would hold up every stream."""
    before, held = jobs_in_memory(workers, collect=True), workers.unacknowledged()
    for task_id in [workers.send("short") for _ in range(50)]:
        workers.wait_for(f"end {task_id}")
    until(lambda: workers.unacknowledged() <= held, "all of them are acknowledged")
    assert jobs_in_memory(workers, collect=False) - before < 5
