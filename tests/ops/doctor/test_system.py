"""Faults of workers, APIs, the model and the way between them, planted on a whole system and found with their fix."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import time_ns

import asyncpg
import httpx2
import pytest
from typer.testing import CliRunner

from app.broker import make_celery
from app.settings import Settings
from app.streaming.flag_document import document_for
from ops.app_commands import answers
from ops.doctor import canary
from ops.doctor.canary import follow_canary
from ops.doctor.clocks import examine_api_clock
from ops.doctor.command import commands, exit_code
from ops.doctor.examination import Subject, examine
from ops.doctor.finding import Finding, error, note, warning, well
from ops.doctor.flag import examine_followers
from ops.doctor.model import examine_model
from ops.doctor.processes import examine_page, examine_ready
from ops.doctor.proxy import examine_proxy
from ops.doctor.versions import installed, judge
from ops.doctor.workers import Worker, examine_workers, judge_workers
from ops.ports import free_port
from ops.stack import Stack, StackOptions, running_stack
from tests.app.test_away import settings_of
from tests.ops.doctor.findings import by_check, only, troubles
from tests.support.faulty_http import answering, buffering_proxy
from tests.support.serving import serving
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[3]
NOWHERE = "redis://127.0.0.1:1/0"
ROUNDED_MS = 0.2
"""By how much two figures of one decimal may be off, together."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy system as production should be: two workers, and a broker of its own that keeps its queue."""
    folder = tmp_path_factory.mktemp("stack")
    options = StackOptions(folder, workers=2, port=0, keep_data=False, own_broker=True, environment=dict(os.environ))
    with running_stack(options) as running:
        yield running


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return settings_of(stack, broker_url=stack.broker_url, openai_api_key="scripted")


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=15) as client:
        yield client


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.database_url)
    yield connection
    await connection.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that waits less for its canary."""
    monkeypatch.setattr(canary, "PATIENCE_S", 2.0)


def started(*command: str, **environment: str) -> "subprocess.Popen[bytes]":
    """A process of a fault's own."""
    argv = [sys.executable, "-m", *command]
    return subprocess.Popen(
        argv, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def test_a_healthy_system_has_nothing_to_report(stack: Stack, settings: Settings) -> None:
    """All checks are made, a message is followed through, and nothing of the doctor's stays behind."""
    subject = Subject(settings, (stack.api_url,), tuple(stack.worker_metrics_urls), through=stack.api_url)
    found = await examine(subject)
    assert by_check(found) == {}
    assert len(found) >= 50
    connection = await asyncpg.connect(stack.database_url)
    assert await connection.fetchval("SELECT count(*) FROM conversation") == 0
    await connection.close()


def test_json_and_the_exit_code_of_severity(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a program that reads it; the worst finding decides."""
    for name, value in (stack.environment() | {"REDIS_URL": NOWHERE, "DATABASE_URL": ""}).items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(commands, ["--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == document["exit_code"] == 1
    away = next(each for each in document["findings"] if each["check"] == "store.connection")
    assert (away["severity"], bool(away["fix"])) == ("error", True)


def test_severities_have_codes_of_their_own() -> None:
    """0 nothing to do, 3 warnings only, 1 whatever else there is besides an error."""
    texts = "check", "finding", "evidence", "fix"
    assert exit_code([well("check", "finding"), note(*texts)]) == 0
    assert exit_code([well("check", "finding"), warning(*texts)]) == 3
    assert exit_code([warning(*texts), error(*texts)]) == 1


async def test_a_stopped_worker_beside_one_that_works(stack: Stack, settings: Settings) -> None:
    """Its connections stay and it answers nothing; what it had fetched waits."""
    worker = stack.processes["worker-2"]
    worker.pause()
    try:
        found = await troubles(examine_workers(settings))
    finally:
        worker.resume()
    only(found, "workers.silent", "worker-2", "kill -CONT")


async def test_no_worker_goes_on(
    stack: Stack, settings: Settings, http: httpx2.AsyncClient, database: asyncpg.Connection, hasty: None
) -> None:
    """The canary stops between queue and worker, and says so."""
    workers = [stack.processes[f"worker-{number}"] for number in (1, 2)]
    for worker in workers:
        worker.pause()
    try:
        found = await troubles(examine_workers(settings))
        stopped = await follow_canary(http, stack.api_url, settings, database)
    finally:
        for worker in workers:
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


@pytest.mark.parametrize(
    ("changes", "evidence", "fix"),
    [
        ({"openai_base_url": "http://127.0.0.1:1/v1"}, "", "OPENAI_BASE_URL"),
        ({"openai_model": "gpt-unheard-of"}, "models are listed", "OPENAI_MODEL"),
    ],
)
async def test_the_model_is_away_or_unknown(
    settings: Settings, changes: dict[str, str], evidence: str, fix: str
) -> None:
    """It is asked for its list, which costs nothing."""
    only(by_check([await examine_model(settings.model_copy(update=changes))]), "model", evidence, fix)


async def test_the_model_refuses_the_key(settings: Settings) -> None:
    """As a provider does with one that has expired."""
    async with answering(lambda _path: (401, {"error": {"message": "Incorrect API key provided"}})) as url:
        finding = await examine_model(settings.model_copy(update={"openai_base_url": f"{url}/v1"}))
    only(by_check([finding]), "model", "401", "OPENAI_API_KEY")


@pytest.mark.parametrize(
    ("model", "patience_s", "finding", "fix"),
    [
        ("scripted?fault=500", 30.0, "'upstream'", "refused or broke off"),
        ("scripted?ttft=60", 4.0, "model or the worker", "said of the model"),
    ],
)
async def test_the_canary_stops_at_the_model(
    stack: Stack,
    http: httpx2.AsyncClient,
    database: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    patience_s: float,
    finding: str,
    fix: str,
) -> None:
    """One that fails, and one that says nothing."""
    monkeypatch.setattr(canary, "PATIENCE_S", patience_s)
    settings = settings_of(stack, broker_url=stack.broker_url).model_copy(update={"openai_model": model})
    async with serving(settings) as client:
        found = await follow_canary(http, str(client.http.base_url).rstrip("/"), settings, database)
    assert finding in found.finding
    assert fix in found.fix


async def test_an_api_with_another_store_than_the_workers(
    stack: Stack, http: httpx2.AsyncClient, database: asyncpg.Connection
) -> None:
    """Both are well by themselves, and each stream has to be moved, before or after its viewer has come."""
    settings = settings_of(stack, broker_url=stack.broker_url, redis_url=stack.broker_url)
    async with serving(settings) as client:
        found = await follow_canary(http, str(client.http.base_url).rstrip("/"), settings, database)
    assert found.finding == "was handed over: it began in pubsub and went on in polling"
    assert "REDIS_URL" in found.fix


async def test_an_api_that_lacks_its_store(stack: Stack, http: httpx2.AsyncClient) -> None:
    """It serves on by `polling`, and says so."""
    async with serving(settings_of(stack, broker_url=stack.broker_url, redis_url=NOWHERE)) as client:
        url = str(client.http.base_url).rstrip("/")
        finding = await examine_ready(http, url)
        found = await troubles(examine_page(http, "api 1", f"{url}/metrics"))
    assert "store" in finding.evidence
    only(found, "api 1 store", "streamgauge_store_away 1", "REDIS_URL")


async def test_addresses_that_lead_elsewhere(stack: Stack, http: httpx2.AsyncClient) -> None:
    """Nothing listens, or something else does."""
    nothing = await examine_ready(http, "http://127.0.0.1:1")
    other = await examine_ready(http, stack.openai_base_url)
    assert "--api" in nothing.fix
    assert other.finding == "is none of our APIs"


async def test_two_apis_that_follow_different_flags(
    stack: Stack, settings: Settings, http: httpx2.AsyncClient, database_url: str
) -> None:
    """One of them reads another database, where another document is in force."""
    other = await asyncpg.connect(database_url)
    document = json.dumps(document_for("polling", ("polling", "pubsub")))
    await other.execute("INSERT INTO flag_document (document, created_at) VALUES ($1, now())", document)
    try:
        async with serving(settings.model_copy(update={"database_url": database_url})) as client:
            await client.post()
            url = str(client.http.base_url).rstrip("/")
            found = await troubles(examine_followers(http, (stack.api_url, url), 0))
    finally:
        await other.execute("DELETE FROM flag_document")
        await other.execute("DELETE FROM conversation")
        await other.close()
    only(found, "api 2 flag", f"at {url}", "DATABASE_URL")


async def test_an_api_whose_clock_is_off(http: httpx2.AsyncClient) -> None:
    """By two seconds, within the bound that the evidence states: the time that the question takes."""

    def late(_path: str) -> tuple[int, object]:
        now = time_ns() + 2_000_000_000
        return 200, {"received_ns": now, "sent_ns": now}

    async with answering(late) as url:
        found = await troubles(examine_api_clock(http, url))
    only(found, f"clock of {url}", "+", "chrony")
    offset_ms, bound_ms = map(float, re.findall(r"[\d.]+", found[f"clock of {url}"].evidence))
    assert abs(offset_ms - 2000) <= bound_ms + ROUNDED_MS


async def test_an_api_whose_loop_is_blocked(stack: Stack, http: httpx2.AsyncClient) -> None:
    """Somebody calls what does not await."""
    port = free_port()
    api = started("tests.support.lagging_api", str(port), **stack.environment())
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"), "the API answers", 30)
        found: dict[str, Finding] = {}
        while not found:
            found = await troubles(examine_page(http, "api 1", f"http://127.0.0.1:{port}/metrics"))
    finally:
        api.terminate()
        api.wait(30)
    only(found, "api 1 loop", "looks", "py-spy")


async def test_a_full_pool(stack: Stack, http: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """One connection, and a request that waits for a lock with it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    api = started("app.serve", "--port", str(port), **stack.environment(), STREAMGAUGE_DATABASE_POOL="1")
    try:
        until(lambda: answers(f"{url}/ready"), "the API answers", 30)
        await database.execute("BEGIN; LOCK TABLE conversation")
        waiting = asyncio.create_task(http.post(f"{url}/conversations", json={}))
        found: dict[str, Finding] = {}
        while not found:
            found = await troubles(examine_page(http, "api 1", f"{url}/metrics"))
        await database.execute("ROLLBACK")
        assert (await waiting).status_code == 201
    finally:
        api.terminate()
        api.wait(30)
        await database.execute("DELETE FROM conversation")
    only(found, "api 1 pool", "1 of 1", "STREAMGAUGE_DATABASE_POOL")


async def test_a_worker_that_may_not_open_as_many_files(stack: Stack, http: httpx2.AsyncClient) -> None:
    """It would take more streams than it can open connections to the model."""
    slots = {"STREAMGAUGE_WORKER_CONCURRENCY": "1000000", "STREAMGAUGE_WORKER_METRICS_PORT": str(port := free_port())}
    command = ("celery", "-A", "app.worker", "worker", "--without-gossip", "--without-mingle", "-n", "starved@%h")
    worker = started(*command, **stack.environment(), **slots)
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        until(lambda: answers(url), "the worker shows its metrics", 30)
        found: dict[str, Finding] = {}
        while not found:
            found = await troubles(examine_page(http, "worker 1", url))
    finally:
        worker.terminate()
        worker.wait(30)
    only(found, "worker 1 files", "streamgauge_worker_slots 1000000", "ulimit -n")


async def test_a_proxy_that_buffers(stack: Stack, http: httpx2.AsyncClient, database: asyncpg.Connection) -> None:
    """It is found by when chunks come through it; one that leads elsewhere is told apart."""
    async with buffering_proxy(stack.api_url) as proxy:
        found = await troubles(examine_proxy(http, proxy, stack.api_url, database))
        only(found, f"proxy {proxy}", "later than directly", "proxy_buffering off")
    lost = await troubles(examine_proxy(http, stack.openai_base_url, stack.api_url, database))
    assert next(iter(lost.values())).finding == "leads to no stream"


def test_versions_that_are_known_to_break() -> None:
    """In this Python, or by what a worker reports of itself."""
    assert all(finding.is_well for finding in judge("versions", installed()))
    found = by_check(judge("versions", {"celery": "5.7.0", "kombu": "5.6.2"}))
    only(found, "versions", "celery 5.7.0", "requirements.lock")


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


async def test_settings_that_do_not_agree(settings: Settings) -> None:
    """A grace that ends before a redelivery can begin."""
    hurried = settings.model_copy(update={"lease_grace_s": 5.0, "redis_url": NOWHERE, "broker_url": NOWHERE})
    found = by_check(await examine(Subject(hurried)))
    assert "STREAMGAUGE_LEASE_GRACE_S" in found["settings"].fix
