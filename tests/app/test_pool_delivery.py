"""At least once, and once while a worker lives: kills, long tasks, redeliveries, and a broker that goes away."""

import json
import time
from itertools import pairwise

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from app import pool
from tests.support.pool_worker import Workers, pool_workers
from tests.support.valkey import free_port
from tests.support.waiting import until

VISIBILITY_S = 2.0


def hold(workers: Workers, gate: str, number: int) -> list[str]:
    """Start `number` tasks that wait for the gate."""
    ids = [workers.send("hold", gate) for _ in range(number)]
    for task_id in ids:
        workers.wait_for(f"start {task_id}")
    return ids


def assert_each_ran_once(workers: Workers, ids: list[str]) -> None:
    for task_id in ids:
        workers.wait_for(f"end {task_id}")
    assert [workers.count(f"start {task_id}") for task_id in ids] == [1] * len(ids)
    assert [workers.count(f"end {task_id}") for task_id in ids] == [1] * len(ids)


def pass_time(seconds: float) -> None:
    """Let timeouts lapse that the test is about."""
    over = time.monotonic() + seconds
    until(lambda: time.monotonic() > over, f"{seconds} s have passed", seconds + 5)


def test_a_killed_workers_messages_run_elsewhere_within_seconds() -> None:
    """After SIGKILL the next worker starts every task again, one visibility timeout and a sweep later."""
    with pool_workers(visibility_timeout_s=VISIBILITY_S) as workers:
        first = workers.start()
        ids = hold(workers, "gate", 20)
        workers.start()
        first.kill()
        killed = time.monotonic()
        until(lambda: all(workers.count(f"start {task_id}") == 2 for task_id in ids), "all 20 started again")
        assert time.monotonic() - killed < VISIBILITY_S + 3
        workers.open_gate("gate")
        for task_id in ids:
            workers.wait_for(f"end {task_id}")
        workers.wait_settled()


def test_a_task_longer_than_the_visibility_timeout_runs_once() -> None:
    """While its worker lives a message stays invisible, also one that waits for its ETA; the other worker idles."""
    with pool_workers(visibility_timeout_s=1.0) as workers:
        workers.start()
        later = workers.send("hold", "gate", countdown=3)
        ids = hold(workers, "gate", 10)
        workers.start()
        pass_time(4)
        workers.wait_for(f"start {later}")
        workers.open_gate("gate")
        assert_each_ran_once(workers, [*ids, later])
        workers.wait_settled()


def test_a_short_visibility_is_renewed_well_before_it_ends() -> None:
    """Within half of it, though sweeps are as far apart as that timeout: the rest is for a machine that stalls."""
    visibility_s, seen = 1.0, list[float]()
    with pool_workers(visibility_timeout_s=visibility_s) as workers, workers.valkey.client() as client:
        workers.start()
        hold(workers, "gate", 1)

        def in_time() -> bool:
            ((_, score),) = client.zrange("unacked_index", 0, -1, withscores=True)
            seen.extend([score] if score not in seen else [])
            return any(later - earlier < visibility_s / 2 for earlier, later in pairwise(seen[1:]))

        until(in_time, "one renewal soon follows another")


def redeliver(workers: Workers) -> str:
    """Do what another worker's sweep would do with the one delivered message; the message."""
    with workers.valkey.client() as client:
        (tag, stored), *_ = client.hgetall("unacked").items()
        client.hdel("unacked", tag)
        client.zrem("unacked_index", tag)
        message = json.dumps(json.loads(stored)[0])
        client.rpush("celery", message)
    return message


def test_a_redelivery_of_what_runs_here_joins_it() -> None:
    """It does not start a second body, is acknowledged with the first, and leaves its slot to others."""
    with pool_workers(concurrency=2) as workers:
        workers.start()
        (task_id,) = hold(workers, "gate", 1)
        message = redeliver(workers)
        until(lambda: "it joins the running task" in workers.output(), "it joined")
        hold(workers, "gate", 1)
        workers.open_gate("gate")
        assert_each_ran_once(workers, [task_id])
        workers.wait_settled()
        with workers.valkey.client() as client:  # and once more, after its end
            client.rpush("celery", message)
        workers.wait_settled()
        assert_each_ran_once(workers, [task_id])


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


def test_the_worker_comes_back_soon_after_its_broker() -> None:
    """Attempts to reconnect begin close together and stay so: kombu's own grow to 30 s."""
    celery = Celery("outage", broker=f"redis://127.0.0.1:{free_port()}/0")
    pool.configure(celery)
    pauses: list[float] = []
    with pytest.raises(OperationalError), celery.connection_for_read() as connection:
        connection.ensure_connection(lambda _error, pause: pauses.append(pause), max_retries=3)
    assert pauses == pytest.approx([0.2, 0.4, 0.6])
