"""Once while a worker lives, also over a broker that is paused, restarted, slow, cut off, or refuses."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from app import pool
from ops.ports import free_port
from tests.support.pool_worker import assert_each_ran_once, hold, pass_time, pool_workers
from tests.support.waiting import until

VISIBILITY_S = 2.0
Refusing = Callable[["redis.Redis"], Iterator[None]]


def test_an_empty_restarted_broker_costs_no_running_task() -> None:
    """The worker reconnects, tells the broker what it holds, finishes it, and takes new work."""
    with pool_workers() as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 50)
        doomed = hold(workers, "never", 1)[0]
        later = workers.send("hold", "gate", countdown=2)
        until(lambda: workers.unacknowledged() == 52, "all are delivered")
        workers.valkey.restart()
        until(lambda: workers.unacknowledged() == 52, "the broker knows what the worker holds, ETA included")
        workers.client.control.revoke(doomed, terminate=True)
        workers.wait_for(f"cancelled {doomed} revoked")
        workers.open_gate("gate")
        assert_each_ran_once(workers, [*ids, later, *hold(workers, "gate", 1)])
        workers.wait_settled()
        assert worker.poll() is None


def test_a_paused_broker_stops_no_task_and_doubles_none() -> None:
    """Tasks end while it is paused; later, past the visibility timeout, they are acknowledged and not run again."""
    with pool_workers(visibility_timeout_s=VISIBILITY_S, broker_timeout_s=2) as workers:
        worker = workers.start()
        ended, running = hold(workers, "first", 20), hold(workers, "second", 20)
        workers.valkey.pause()
        workers.open_gate("first")
        for task_id in ended:
            workers.wait_for(f"end {task_id}")
        pass_time(2 * VISIBILITY_S)
        workers.valkey.resume()
        until(lambda: workers.unacknowledged() == 20, "the ended ones are acknowledged")
        workers.open_gate("second")
        assert_each_ran_once(workers, ended + running)
        workers.wait_settled()
        assert worker.poll() is None


def test_after_a_pause_of_the_broker_no_worker_takes_anothers_tasks() -> None:
    """Nobody could renew meanwhile, so everybody looks lost to everybody: each gets the time to renew first."""
    with pool_workers(visibility_timeout_s=VISIBILITY_S, broker_timeout_s=2, concurrency=20) as workers:
        both = [workers.start(), workers.start()]
        ids = hold(workers, "gate", 40)
        workers.valkey.pause()
        pass_time(2 * VISIBILITY_S)
        workers.valkey.resume()
        pass_time(2 * VISIBILITY_S)
        workers.open_gate("gate")
        assert_each_ran_once(workers, ids)
        workers.wait_settled()
        assert [worker.poll() for worker in both] == [None, None]


def test_an_acknowledgement_that_timed_out_is_repeated() -> None:
    """The broker was slow, the connection lives on: within a second or so the broker knows."""
    with pool_workers(broker_timeout_s=1.5) as workers:
        workers.start()
        ids = hold(workers, "gate", 20)
        workers.valkey.pause()
        workers.open_gate("gate")
        until(lambda: "Couldn't ack" in workers.output(), "the first acknowledgement timed out")
        workers.valkey.resume()
        workers.wait_settled()
        assert_each_ran_once(workers, ids)


def test_broken_connections_lose_no_acknowledgement() -> None:
    """Connections break while a hundred tasks end: each ran once, also with another worker there to take them."""
    with pool_workers() as workers:
        worker = workers.start()
        ids = [task_id for number in range(5) for task_id in hold(workers, f"gate{number}", 20)]
        workers.start()
        with workers.valkey.client() as client:
            for number in range(5):
                workers.open_gate(f"gate{number}")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        until(lambda: "Connection to broker lost" in workers.output(0) and "lost" in workers.output(1), "both noticed")
        assert_each_ran_once(workers, ids)
        workers.wait_settled()
        assert worker.poll() is None


def stopped_by_a_script(client: "redis.Redis") -> Iterator[None]:
    """One that runs on: -BUSY."""
    client.config_set("busy-reply-threshold", 100)

    def run() -> None:
        with contextlib.suppress(redis.ResponseError), redis.Redis(**client.get_connection_kwargs()) as other:
            other.eval("while true do end", 0)

    running = threading.Thread(target=run)
    running.start()
    try:
        yield
    finally:
        until(lambda: is_killed(client), "the script is ended")
        running.join()


def is_killed(client: "redis.Redis") -> bool:
    try:
        return bool(client.script_kill())
    except redis.ResponseError:  # it has not begun, or not run for long enough
        return False


def demoted(client: "redis.Redis") -> Iterator[None]:
    """As by a failover: -UNBLOCKED, then -READONLY."""
    client.replicaof("127.0.0.1", "1")
    yield
    client.replicaof("NO", "ONE")


def cut_off_from_its_primary(client: "redis.Redis") -> Iterator[None]:
    """And told to say nothing that may be old: -MASTERDOWN."""
    client.config_set("replica-serve-stale-data", "no")
    yield from demoted(client)


def out_of_memory(client: "redis.Redis") -> Iterator[None]:
    """It takes no command that may need more: -OOM."""
    client.config_set("maxmemory", 1)
    yield
    client.config_set("maxmemory", 0)


def without_its_replicas(client: "redis.Redis") -> Iterator[None]:
    """It may take no write alone: -NOREPLICAS."""
    client.config_set("min-replicas-to-write", 1)
    yield
    client.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize(
    "refusing", [stopped_by_a_script, demoted, cut_off_from_its_primary, out_of_memory, without_its_replicas]
)
def test_a_broker_that_refuses_is_as_one_that_is_away(refusing: Refusing) -> None:
    """No worker ends by it: it reconnects with pauses, and tells the broker then what ended meanwhile."""
    with pool_workers() as workers, workers.valkey.client() as client:
        worker = workers.start()
        ended, running = hold(workers, "first", 20), hold(workers, "second", 20)
        with contextlib.contextmanager(refusing)(client):
            workers.open_gate("first")
            for task_id in ended:
                workers.wait_for(f"end {task_id}")
            until(lambda: "Trying again" in workers.output(), "the worker waits for the broker")
        until(lambda: workers.unacknowledged() == 20, "the ended ones are acknowledged")
        workers.open_gate("second")
        assert_each_ran_once(workers, [*ended, *running, *hold(workers, "second", 1)])
        workers.wait_settled()
        assert worker.poll() is None
        assert "Frequent restarts" not in workers.output()


def test_a_message_that_a_full_broker_gave_and_could_not_note_is_not_lost() -> None:
    """To give it frees memory, to note who has it needs some: the worker gives it back as soon as there is room."""
    with pool_workers() as workers, workers.valkey.client() as client:
        worker = workers.start()
        worker.send_signal(signal.SIGSTOP)
        task_id = workers.send("hold", "gate")
        until(lambda: not workers.queued(), "it is on its way to the worker")
        with contextlib.contextmanager(out_of_memory)(client):
            worker.send_signal(signal.SIGCONT)
            until(lambda: "Trying again" in workers.output(), "the worker waits for the broker")
            assert not workers.unacknowledged()
        workers.open_gate("gate")
        assert_each_ran_once(workers, [task_id])
        workers.wait_settled()


def test_the_worker_comes_back_soon_after_its_broker() -> None:
    """Attempts to reconnect begin close together and stay so: kombu's own grow to 30 s."""
    celery = Celery("outage", broker=f"redis://127.0.0.1:{free_port()}/0")
    pool.configure(celery)
    pauses: list[float] = []
    with pytest.raises(OperationalError), celery.connection_for_read() as connection:
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=3)
    assert pauses == pytest.approx([0.2, 0.4, 0.6])
