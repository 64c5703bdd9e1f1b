"""Once while a worker lives, also over a broker that is paused, restarted, slow, cut off, or refuses."""

import signal

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from app import pool
from ops.ports import free_port
from tests.support.pool_worker import assert_each_ran_once, hold, pass_time, pool_workers, workers_on
from tests.support.refusing import (
    Refusing,
    cut_off_from_its_primary,
    demoted,
    out_of_memory,
    stopped_by_a_script,
    without_its_replicas,
)
from tests.support.valkey_sentinel import running_sentinels
from tests.support.waiting import until

VISIBILITY_S = 2.0


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


def test_after_a_reconnect_no_more_tasks_run_at_once_than_allowed() -> None:
    """Those that run keep their slots, also against messages whose time comes: those are delivered all the same."""
    with pool_workers(concurrency=3) as workers:
        workers.start()
        ids = hold(workers, "gate", 2)
        workers.valkey.restart()
        until(lambda: workers.unacknowledged() == 2, "the broker knows what the worker holds")
        later = [workers.send("hold", "gate", countdown=1.5) for _ in range(3)]
        until(lambda: workers.unacknowledged() == 5, "all are delivered before their time")
        workers.wait_for("start", 3)
        pass_time(0.5)
        assert workers.count("start") == 3
        workers.open_gate("gate")
        assert_each_ran_once(workers, [*ids, *later])
        workers.wait_settled()


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


@pytest.mark.parametrize(
    "refusing", [stopped_by_a_script, demoted, cut_off_from_its_primary, out_of_memory, without_its_replicas]
)
def test_a_broker_that_refuses_is_as_one_that_is_away(refusing: Refusing) -> None:
    """No worker ends by it: it reconnects with pauses, and tells the broker then what ended meanwhile."""
    with pool_workers() as workers, workers.valkey.client() as client:
        worker = workers.start()
        ended, running = hold(workers, "first", 20), hold(workers, "second", 20)
        with refusing(client):
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
        with out_of_memory(client):
            worker.send_signal(signal.SIGCONT)
            until(lambda: "Trying again" in workers.output(), "the worker waits for the broker")
            assert not workers.unacknowledged()
        workers.open_gate("gate")
        assert_each_ran_once(workers, [task_id])
        workers.wait_settled()


def test_a_failover_of_the_broker_costs_no_running_task() -> None:
    """Behind Sentinel a worker goes on at the replica that took over: what it holds runs once, and is acknowledged.

    The first sentinel of its URL is away, as one that died with the master would be.
    """
    with running_sentinels() as servers, workers_on(servers.master, servers.url_with_one_away) as workers:
        worker = workers.start()
        ids = hold(workers, "gate", 50)
        until(lambda: workers.unacknowledged() == 50, "all are delivered")
        servers.master.kill()
        servers.wait_for(servers.replica)
        workers.use(servers.replica)
        after = hold(workers, "gate", 1)
        until(lambda: workers.unacknowledged() == 51, "the new master knows what the worker holds")
        workers.open_gate("gate")
        assert_each_ran_once(workers, ids + after)
        workers.wait_settled()
        assert worker.poll() is None


def test_the_worker_comes_back_soon_after_its_broker() -> None:
    """Attempts to reconnect begin close together and stay so: kombu's own grow to 30 s."""
    celery = Celery("outage", broker=f"redis://127.0.0.1:{free_port()}/0")
    pool.configure(celery)
    pauses: list[float] = []
    with pytest.raises(OperationalError), celery.connection_for_read() as connection:
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=3)
    assert pauses == pytest.approx([0.2, 0.4, 0.6])
