"""The faults: what each does to a running stack, and what the contract promises the streams that it meets."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import redis

from ops.stack import Stack

ANSWER = "ttft=0.1&gap=0.1&chunks=150"
"""15 seconds at ten words a second: every fault falls into it."""
DONE = frozenset({"done"})
OUTAGE_S = 5.0
"""Longer than the 4 s after which a producer hands its stream over."""
LEASE_AND_GRACE_S = 60.0


@dataclass(frozen=True)
class Scenario:
    """One fault. `endings` are the terminals that keep the contract's promise under it."""

    name: str
    what: str
    strike: Callable[[Stack], None] = lambda _stack: time.sleep(OUTAGE_S)
    script: str = ANSWER
    endings: frozenset[str] = DONE
    leave_s: float | None = None
    """Viewers break their connections off after a random time up to this."""


def kill(*names: str) -> Callable[[Stack], None]:
    """End these parts at once (SIGKILL), and start them again after the outage."""

    def strike(stack: Stack) -> None:
        for name in names:
            stack.processes[name].kill()
        time.sleep(OUTAGE_S)
        for name in names:
            stack.restart(name)

    return strike


def pause(name: str) -> Callable[[Stack], None]:
    """Stop this part's clock (SIGSTOP): its connections stay open and nothing answers, until the outage is over."""

    def strike(stack: Stack) -> None:
        process = stack.processes[name]
        process.pause()
        try:
            time.sleep(2 * OUTAGE_S)
        finally:
            process.resume()

    return strike


def roll(kind: str) -> Callable[[Stack], None]:
    """Restart every part of this kind in turn, as a deployment does: SIGTERM, its own drain, a new one."""

    def strike(stack: Stack) -> None:
        for name in [name for name in stack.processes if name.startswith(kind)]:
            stack.restart(name)

    return strike


def command(*words: str) -> Callable[[Stack], None]:
    """Send the chunk store a command."""

    def strike(stack: Stack) -> None:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.execute_command(*words)
        time.sleep(OUTAGE_S)

    return strike


def cut_connections(stack: Stack) -> None:
    """Close every connection to the chunk store, three times in a row; the store itself stays well."""
    with redis.Redis.from_url(stack.redis_url) as client:
        for _ in range(3):
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(1)


def leave_no_worker(stack: Stack) -> None:
    """Kill all workers, and bring them back only when every stream of theirs must have been given up."""
    workers = [name for name in stack.processes if name.startswith("worker")]
    for name in workers:
        stack.processes[name].kill()
    time.sleep(LEASE_AND_GRACE_S + OUTAGE_S)
    for name in workers:
        stack.restart(name)


ALL = (
    Scenario("none", "Nothing: the control."),
    Scenario("valkey-kill", "The chunk store is killed, and comes back empty after 5 s.", kill("valkey")),
    Scenario("valkey-pause", "The chunk store stops answering for 10 s (SIGSTOP).", pause("valkey")),
    Scenario("valkey-flush", "The chunk store loses all its keys (FLUSHALL).", command("FLUSHALL")),
    Scenario("valkey-cut", "Every connection to the chunk store is closed, three times in a row.", cut_connections),
    Scenario("broker-kill", "The broker is killed, and comes back after 5 s.", kill("broker")),
    Scenario("broker-pause", "The broker stops answering for 10 s (SIGSTOP).", pause("broker")),
    Scenario(
        "both-kill", "Chunk store and broker are killed at once, as where they are one.", kill("valkey", "broker")
    ),
    Scenario("worker-kill", "One of two workers is killed, and comes back after 5 s.", kill("worker-1")),
    Scenario("worker-roll", "Both workers are restarted in turn.", roll("worker")),
    Scenario(
        "worker-none",
        "All workers are killed and stay away for longer than lease and grace.",
        leave_no_worker,
        endings=frozenset({"done", "failed/producer_lost"}),
    ),
    Scenario("api-kill", "One of two APIs is killed, and comes back after 5 s.", kill("api-1")),
    Scenario("api-roll", "Both APIs are restarted in turn.", roll("api")),
    Scenario("postgres-kill", "The database is killed, and recovers after 5 s.", kill("postgres")),
    Scenario("postgres-pause", "The database stops answering for 10 s (SIGSTOP).", pause("postgres")),
    Scenario(
        "model-kill",
        "The model's server is killed in mid-answer, and comes back after 5 s.",
        kill("model"),
        endings=frozenset({"done", "failed/upstream"}),
    ),
    Scenario(
        "model-cut",
        "The model breaks every answer off after 60 of 150 tokens.",
        script=f"{ANSWER}&fault=cut&at=60",
        endings=frozenset({"failed/upstream"}),
    ),
    Scenario("model-429", "The model refuses every first request with 429.", script=f"{ANSWER}&fault=429&tries=1"),
    Scenario("model-500", "The model fails every first request with 500.", script=f"{ANSWER}&fault=500&tries=1"),
    Scenario(
        "model-stall",
        "The model falls silent after 60 tokens and keeps the connection.",
        script=f"{ANSWER}&fault=stall&at=60",
        endings=frozenset({"failed/timeout"}),
    ),
    Scenario(
        "client-churn",
        "Every viewer breaks its connection off again and again, at any byte, and resumes at once.",
        leave_s=2.0,
    ),
)
