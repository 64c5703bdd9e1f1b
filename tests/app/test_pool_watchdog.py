"""Synchronous code in a body freezes every task: it is measured, named, and ended."""

import signal
import time
from functools import partial

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


def _has_passed(instant: float) -> bool:
    return time.monotonic() > instant


def test_a_process_that_was_stopped_goes_on() -> None:
    """Its loop stood still, and so did its watchdog: a machine that slept, or a SIGSTOP, is no fault of the loop."""
    with pool_workers(watch={"warn_s": 0.3, "fatal_s": 1.0}) as workers:
        worker = workers.start()
        for _ in range(4):  # which of the two threads wakes first is chance
            beats = workers.count("lag")
            worker.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            until(partial(_has_passed, stopped_at + 1.5), "it has stood for longer than a loop may")
            worker.send_signal(signal.SIGCONT)
            workers.wait_for("lag", beats + 1)
        workers.open_gate("gate")
        workers.wait_for(f"end {workers.send('hold', 'gate')}")
        assert worker.poll() is None
        workers.wait_settled()
