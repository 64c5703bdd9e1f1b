"""Synchronous code in a body freezes every task: it is measured, named, and ended."""

from app.pool.loop import EXIT_FROZEN
from tests.support.pool_worker import pool_workers
from tests.support.waiting import until


def test_a_frozen_loop_is_measured_and_named_while_it_is_frozen() -> None:
    """The lag reaches the gauge and the log shows the stack; a short freeze ends nothing."""
    with pool_workers(watch={"warn_s": 0.3}) as workers:
        workers.start()
        task_id = workers.send("freeze", 1.5)
        workers.wait_for("lag")
        assert workers.count(f"end {task_id}") == 0
        until(lambda: "pool_app.py" in workers.output() and "in freeze" in workers.output(), "the log names it")
        workers.wait_for(f"end {task_id}")
        workers.wait_settled()


def test_a_loop_frozen_for_too_long_ends_the_process_and_its_messages_run_elsewhere() -> None:
    """Other tasks of that worker come back on the next one."""
    with pool_workers(visibility_timeout_s=1.0, watch={"warn_s": 0.3, "fatal_s": 1.0}) as workers:
        worker = workers.start()
        task_id = workers.send("hold", "gate")
        workers.wait_for(f"start {task_id}")
        workers.send("freeze", 60)
        assert worker.wait(20) == EXIT_FROZEN
        workers.open_gate("gate")
        workers.start()
        workers.wait_for(f"end {task_id}")
