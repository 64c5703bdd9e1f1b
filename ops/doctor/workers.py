"""Celery's workers: whether they answer, what they take, what they know, and which versions they are."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.broker import TASK, make_celery
from app.settings import Settings
from ops.doctor.connection import AWAY, connected
from ops.doctor.finding import Finding, Findings, error, shortened, warning, well
from ops.doctor.versions import judge
from ops.sentinel import server_of

PING_S = 2.0
START = "celery -A app.worker worker"
POOL = "app.pool"
BINDINGS = "_kombu.binding.celery.pidbox"
"""Where kombu notes who listens for questions; who was killed stays noted."""
MAILBOX = ".celery.pidbox"


@dataclass(frozen=True, slots=True)
class Worker:
    """What one worker says of itself."""

    name: str
    queues: frozenset[str]
    tasks: frozenset[str]
    pool: str
    report: str

    @property
    def is_ours(self) -> bool:
        """Whether it knows the one task there is here."""
        return TASK in self.tasks


async def examine_workers(settings: Settings) -> Findings:
    """Ask all workers on the broker about themselves, as `celery inspect` does; a paused one is as a dead one."""
    try:
        noted, listening = await _listeners(settings.broker_url)
        workers = await asyncio.to_thread(_ask, settings.broker_url, listening)
        # As many can be silent as there are connections more.
        silent = sorted(noted - {worker.name for worker in workers})[: max(0, listening - len(workers))]
    except Exception as cause:  # kombu lets its transport's own errors through, of many kinds
        server = "store, which is the broker too" if settings.broker_url == settings.redis_url else "broker"
        yield error("workers", "can't be asked", shortened(cause), f"See what is said of the {server}.")
        return
    if not workers:
        yield error(
            "workers.answer",
            "none answers: new messages wait in the queue",
            f"no reply to a ping within {PING_S:g} s"
            + (f"; connected and silent: {', '.join(silent)}" if silent else ""),
            f"Start one with `{START}` and this BROKER_URL; a stopped one (state T in `ps`) wants kill -CONT.",
        )
        return
    if silent:
        yield warning(
            "workers.silent",
            f"{len(silent)} of {len(workers) + len(silent)} is connected and does not answer",
            f"silent: {', '.join(silent)}",
            "Its process is stopped (state T in `ps`: kill -CONT it), or its machine is lost: end it then.",
        )
    yield well("workers.answer", f"{len(workers)} answered: {', '.join(worker.name for worker in workers)}")
    with make_celery(settings.broker_url) as celery:
        queue = str(celery.conf.task_default_queue)
    for finding in judge_workers(workers, queue):
        yield finding


def judge_workers(workers: list[Worker], queue: str) -> Iterator[Finding]:
    """Judge what workers said of themselves; `queue` is where messages go."""
    yield _consuming(workers, queue)
    strangers = [worker.name for worker in workers if queue in worker.queues and not worker.is_ours]
    if strangers:
        yield error(
            "workers.strangers",
            "another program's worker takes our messages and throws them away",
            f"{', '.join(strangers)} takes from {queue!r} and does not know {TASK}",
            "Give each program a broker, or a database number of it, of its own.",
        )
    ours = [worker for worker in workers if worker.is_ours]
    if wrong := [worker for worker in ours if not worker.pool.startswith(POOL)]:
        yield error(
            "workers.pool",
            "runs in a pool that holds one stream per process or thread",
            ", ".join(f"{worker.name}: {worker.pool}" for worker in wrong),
            f"Start it without -P or --pool: `{START}` chooses ours.",
        )
    for worker in ours:
        yield from judge(f"workers.versions {worker.name}", reported(worker.report))


def _consuming(workers: list[Worker], queue: str) -> Finding:
    taking = [worker for worker in workers if worker.is_ours and queue in worker.queues]
    if taking:
        return well("workers.queue", f"{len(taking)} take from {queue!r}")
    return error(
        "workers.queue",
        f"none takes from the queue {queue!r}, where messages go",
        "; ".join(f"{worker.name} takes from {', '.join(sorted(worker.queues)) or 'none'}" for worker in workers),
        f"Start it without -Q: `{START}`; or `celery -A app.worker control add_consumer {queue}`.",
    )


def reported(report: str) -> dict[str, str]:
    """Read the versions off a worker's report: `software -> celery:5.6.3 (recovery) kombu:5.6.2 py:3.11.7`."""
    return dict(re.findall(r"\b(celery|kombu):(\d[\w.]*)", report))


def _ask(broker_url: str, listening: int) -> list[Worker]:
    """Wait no longer than until all have answered that listen."""
    with make_celery(server_of(broker_url)) as celery:
        names = sorted(celery.control.inspect(timeout=PING_S, limit=listening or None).ping() or {})
        if not names:
            return []
        asking = celery.control.inspect(destination=names, timeout=PING_S, limit=len(names))
        queues, tasks, stats, reports = (
            asking.active_queues() or {}, asking.registered() or {}, asking.stats() or {}, asking.report() or {},
        )  # fmt: skip
    return [
        Worker(
            name,
            frozenset(queue["name"] for queue in queues.get(name) or ()),
            frozenset(entry.split()[0] for entry in tasks.get(name) or ()),
            _pool(stats.get(name) or {}),
            str((reports.get(name) or {}).get("ok", "")),
        )
        for name in names
    ]


def _pool(stats: dict[str, Any]) -> str:
    return str(stats.get("pool", {}).get("implementation", POOL))


async def _listeners(broker_url: str) -> tuple[set[str], int]:
    """Name the workers that ever listened, and count the live connections that do.

    Whoever was killed stays noted, but is not connected.
    """
    try:
        async with connected(broker_url) as client:
            noted = {entry.rpartition("\x16")[2].removesuffix(MAILBOX) for entry in await client.smembers(BINDINGS)}
            listening = sum(int(each.get("psub", 0)) > 0 for each in await client.client_list())
    except AWAY:
        return set(), 0
    return noted, listening
