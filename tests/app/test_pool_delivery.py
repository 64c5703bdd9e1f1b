"""At least once, and once while a worker lives: kills, long tasks and redeliveries."""

import json
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

from tests.support.pool_worker import Workers, assert_each_ran_once, hold, pass_time, pool_workers
from tests.support.waiting import until

VISIBILITY_S = 2.0
SEEN = 10_000
"""Commands that the broker is watched for, at most."""


def test_a_killed_workers_messages_run_elsewhere_within_seconds() -> None:
    """After SIGKILL the next worker starts every task again, one visibility timeout and a sweep later."""
    with pool_workers(visibility_timeout_s=VISIBILITY_S) as workers:
        first = workers.start()
        ids = hold(workers, "gate", 20)
        workers.start()
        first.kill()
        until(lambda: all(workers.count(f"start {task_id}") == 2 for task_id in ids), "all 20 started again")
        workers.open_gate("gate")
        for task_id in ids:
            workers.wait_for(f"end {task_id}")
        workers.wait_settled()


def test_a_worker_lost_in_a_sweep_soon_lets_others_sweep() -> None:
    """One sweeps at a time, under a lock that ends by itself before the lost worker's messages may be restored."""
    with pool_workers(visibility_timeout_s=VISIBILITY_S) as workers, workers.valkey.client() as client:
        with client.monitor() as commands:
            workers.start()
            locking = next(words for words in islice(_words(commands), SEEN) if words[:2] == ["SET", "unacked_mutex"])
        assert int(locking[locking.index("PX") + 1]) < VISIBILITY_S * 1000


def _words(commands: Any) -> Iterator[list[str]]:
    for command in commands.listen():
        yield command["command"].split()


def test_a_task_longer_than_the_visibility_timeout_runs_once() -> None:
    """While its worker lives a message stays invisible, also one that waits for its ETA; the other worker idles."""
    visibility_s = 4.0  # a worker that stalls for three quarters of it, as on a busy machine, looks lost
    with pool_workers(visibility_timeout_s=visibility_s) as workers:
        workers.start()
        later = workers.send("hold", "gate", countdown=1.25 * visibility_s)
        ids = hold(workers, "gate", 10)
        workers.start()
        pass_time(1.5 * visibility_s)
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
