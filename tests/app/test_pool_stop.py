"""How a worker stops: warm with a deadline, cold, or with its broker away."""

import signal
import subprocess

from tests.support.pool_worker import hold, pool_workers
from tests.support.waiting import until


def stopped(worker: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    """Send the signal and give the exit code."""
    worker.send_signal(number)
    return worker.wait(20)


def test_a_warm_stop_lets_running_tasks_finish() -> None:
    """They end and are acknowledged, their visibility renewed meanwhile, and only then the lifespan is left."""
    visibility_s = 3.0
    with pool_workers(visibility_timeout_s=visibility_s, drain_s=20) as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 10)
        workers.start()
        worker.send_signal(signal.SIGTERM)
        until(lambda: "Stopping: 10 tasks" in workers.output(), "it drains")
        until(lambda: workers.unacknowledged() == 10, "the ten are still its own")
        other = hold(workers, "other", 1)  # goes to the second worker
        with workers.valkey.client() as client:
            (tag, score), *_ = client.zrange("unacked_index", 0, 0, withscores=True)
            until(lambda: (client.zscore("unacked_index", tag) or 0) > score + visibility_s, "renewed again and again")
        workers.open_gate("gate")
        assert worker.wait(20) == 0
        assert [workers.count(f"start {task_id}") for task_id in ids] == [1] * 10
        assert [workers.count(f"end {task_id}") for task_id in ids] == [1] * 10
        events = workers.events()
        assert events.index(f"lifespan-left {worker.pid}") > max(events.index(f"end {task_id}") for task_id in ids)
        workers.open_gate("other")
        workers.wait_for(f"end {other[0]}")
        workers.wait_settled()


def test_past_the_deadline_the_rest_is_cancelled_and_put_back() -> None:
    """The body learns that the worker stops, and the next worker runs the task."""
    with pool_workers(drain_s=0.5) as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 20)
        assert stopped(worker) == 0
        assert all(workers.count(f"cancelled {task_id} shutdown") == 1 for task_id in ids)
        assert (workers.queued(), workers.unacknowledged()) == (20, 0)
        workers.open_gate("gate")
        workers.start()
        for task_id in ids:
            workers.wait_for(f"end {task_id}")
        workers.wait_settled()


def test_a_body_that_ignores_its_cancellation_does_not_hold_the_stop_up() -> None:
    """Its message goes back, and the process ends."""
    with pool_workers(drain_s=0.2, cancel_grace_s=0.5) as workers:
        worker = workers.start()
        task_id = workers.send("stubborn")
        workers.wait_for(f"start {task_id}")
        stopped(worker)
        assert "ignores its cancellation" in workers.output()
        assert (workers.queued(), workers.unacknowledged()) == (1, 0)


def test_nothing_is_fetched_once_the_drain_has_begun() -> None:
    """A BRPOP still in flight would take a message to the grave if the drain ends by SIGKILL."""
    with pool_workers(drain_s=20) as workers:
        worker = workers.start()
        hold(workers, "gate", 1)
        worker.send_signal(signal.SIGTERM)
        until(lambda: "Stopping: 1 task" in workers.output(), "it drains")
        workers.send("short")
        worker.kill()
        worker.wait(10)
        assert (workers.queued(), workers.unacknowledged()) == (1, 1)


def test_a_cold_stop_puts_everything_back_at_once() -> None:
    """SIGQUIT cancels, however long the drain would be."""
    with pool_workers(drain_s=60) as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 20)
        stopped(worker, signal.SIGQUIT)
        assert all(workers.count(f"cancelled {task_id}") == 1 for task_id in ids)
        assert (workers.queued(), workers.unacknowledged()) == (20, 0)


def test_it_stops_while_the_broker_is_away() -> None:
    """Tasks finish; nothing hangs on the lost broker."""
    with pool_workers(drain_s=10) as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 5)
        workers.valkey.kill()
        until(lambda: "Trying again" in workers.output(), "it has noticed")
        worker.send_signal(signal.SIGTERM)
        until(lambda: "Stopping: 5 tasks" in workers.output(), "it drains")
        workers.open_gate("gate")
        worker.wait(20)
        assert all(workers.count(f"end {task_id}") == 1 for task_id in ids)
        assert workers.count("lifespan-left") == 1
        assert "estoring" not in workers.output(), "kombu prints no line, and no traceback of what it can't do"
        assert "'NoneType' object" not in workers.output()


def test_a_lifespan_that_fails_ends_the_worker_with_its_error() -> None:
    """No message is fetched by a worker that has no database."""
    with pool_workers(broken_lifespan=True) as workers:
        workers.send("short")
        assert workers.spawn().wait(20) != 0
        assert "RuntimeError('the database does not answer')" in workers.output()
        assert (workers.queued(), workers.unacknowledged()) == (1, 0)
