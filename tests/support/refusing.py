"""What makes a real Valkey refuse to serve, and lets it serve again."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import redis

from tests.support.waiting import until

Refusing = Callable[["redis.Redis"], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def stopped_by_a_script(client: "redis.Redis") -> Iterator[None]:
    """One that runs on: -BUSY."""
    client.config_set("busy-reply-threshold", 100)

    def run() -> None:
        with contextlib.suppress(redis.ResponseError), redis.Redis(**client.get_connection_kwargs()) as other:
            other.eval("while true do end", 0)

    running = threading.Thread(target=run)
    running.start()
    try:
        until(lambda: is_busy(client), "the script runs")
        yield
    finally:
        client.script_kill()
        running.join()


def is_busy(client: "redis.Redis") -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


@contextlib.contextmanager
def demoted(client: "redis.Redis") -> Iterator[None]:
    """As by a failover: -UNBLOCKED, then -READONLY."""
    client.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextlib.contextmanager
def cut_off_from_its_primary(client: "redis.Redis") -> Iterator[None]:
    """And told to say nothing that may be old: -MASTERDOWN."""
    client.config_set("replica-serve-stale-data", "no")
    with demoted(client):
        yield


@contextlib.contextmanager
def out_of_memory(client: "redis.Redis") -> Iterator[None]:
    """It takes no command that may need more: -OOM."""
    client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)


@contextlib.contextmanager
def without_its_replicas(client: "redis.Redis") -> Iterator[None]:
    """It may take no write alone: -NOREPLICAS."""
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)
