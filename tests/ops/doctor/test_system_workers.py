"""Faults of workers, planted on a whole system and found with their fix."""

import asyncpg
import httpx2
import psutil
import pytest

from app.broker import make_celery
from app.settings import Settings
from ops.doctor import workers
from ops.doctor.canary import follow_canary
from ops.doctor.finding import Finding
from ops.doctor.processes import examine_page
from ops.doctor.workers import Worker, examine_workers, judge_workers
from ops.stack import Stack
from tests.ops.doctor.findings import by_check, only, troubles
from tests.ops.doctor.planted import started

pytestmark = pytest.mark.anyio
FEW_FILES = 1000
"""Fewer than a worker's slots, and more than it has open."""


async def test_workers_that_all_answer_keep_nobody_waiting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience is for those that are silent."""
    monkeypatch.setattr(workers, "PING_S", 600.0)
    assert await troubles(examine_workers(settings)) == {}


async def test_a_page_that_is_another_process_s(stack: Stack, http: httpx2.AsyncClient) -> None:
    """Its figures would pass for those of a process that nobody looks at."""
    api, worker = f"{stack.api_url}/metrics", stack.worker_metrics_urls[0]
    only(await troubles(examine_page(http, "worker 1", api)), "worker 1 metrics", api, "Correct --worker")
    only(await troubles(examine_page(http, "api 1", worker)), "api 1 metrics", worker, "Correct --api")


async def test_a_stopped_worker_beside_one_that_works(stack: Stack, settings: Settings) -> None:
    """Its connections stay and it answers nothing; what it had fetched waits."""
    worker = stack.processes["worker-2"]
    worker.pause()
    try:
        found = await troubles(examine_workers(settings))
        async with httpx2.AsyncClient(timeout=0.5) as impatient:
            page = await troubles(examine_page(impatient, "worker 2", stack.worker_metrics_urls[1]))
    finally:
        worker.resume()
    only(found, "workers.silent", "worker-2", "kill -CONT")
    only(page, "worker 2 metrics", stack.worker_metrics_urls[1], "kill -CONT")


async def test_no_worker_goes_on(
    stack: Stack, settings: Settings, http: httpx2.AsyncClient, database: asyncpg.Connection, hasty: None
) -> None:
    """The canary stops between queue and worker, and says so."""
    both = [stack.processes[f"worker-{number}"] for number in (1, 2)]
    for worker in both:
        worker.pause()
    try:
        found = await troubles(examine_workers(settings))
        stopped = await follow_canary(http, stack.api_url, settings, database)
    finally:
        for worker in both:
            worker.resume()
    only(found, "workers.answer", "worker-1", "celery -A app.worker worker")
    assert stopped.finding.startswith(("stops in the queue", "stops in a worker"))  # as far as the pause let it come
    assert "stopped" in stopped.fix


async def test_workers_that_take_from_another_queue(
    stack: Stack, settings: Settings, http: httpx2.AsyncClient, database: asyncpg.Connection, hasty: None
) -> None:
    """All is well with them, and no message is answered."""
    with make_celery(stack.broker_url) as celery:
        celery.control.cancel_consumer("celery", reply=True)
        try:
            found = await troubles(examine_workers(settings))
            stopped = await follow_canary(http, stack.api_url, settings, database)
        finally:
            celery.control.add_consumer("celery", reply=True)
    only(found, "workers.queue", "takes from none", "without -Q")
    assert "queue" in stopped.finding


async def test_a_stranger_takes_our_messages(stack: Stack, settings: Settings) -> None:
    """Another program's worker on the same broker and queue throws away what it does not know."""
    worker = started("celery", "-A", "tests.support.other_program", "worker", "-P", "solo", BROKER_URL=stack.broker_url)
    try:
        found: dict[str, Finding] = {}
        while "workers.strangers" not in found:
            assert worker.poll() is None
            found = await troubles(examine_workers(settings))
    finally:
        worker.terminate()
        worker.wait(15)
    only(found, "workers.strangers", "app.generate", "a database number of it")


async def test_a_worker_that_may_not_open_as_many_files(stack: Stack, http: httpx2.AsyncClient) -> None:
    """It would take more streams than it can open connections to the model."""
    worker = psutil.Process(stack.processes["worker-1"].pid)
    before = worker.rlimit(psutil.RLIMIT_NOFILE)
    worker.rlimit(psutil.RLIMIT_NOFILE, (FEW_FILES, before[1]))
    try:
        found = await troubles(examine_page(http, "worker 1", stack.worker_metrics_urls[0]))
    finally:
        worker.rlimit(psutil.RLIMIT_NOFILE, before)
    only(found, "worker 1 files", f"process_max_fds {FEW_FILES}, streamgauge_worker_slots 2000", "ulimit -n")


def test_a_worker_in_another_pool_or_of_another_version() -> None:
    """By what it would say: our own application always chooses its pool, so only a changed one could be planted."""
    report = "software -> celery:5.7.0 (recovery) kombu:5.6.2 py:3.11.7"
    queue, tasks = frozenset({"celery"}), frozenset({"app.generate"})
    found = by_check(
        judge_workers([Worker("old@host", queue, tasks, "celery.concurrency.prefork:TaskPool", report)], "celery")
    )
    assert set(found) == {"workers.pool", "workers.versions old@host"}
    assert "-P" in found["workers.pool"].fix
    assert "requirements.lock" in found["workers.versions old@host"].fix
