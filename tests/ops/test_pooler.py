"""PostgreSQL behind PgBouncer in transaction mode, a real one: a few sessions that all connections take in turns."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from time import time_ns

import asyncpg
import httpx2
import pytest
import trustme

from app.database import UNPREPARED, Database, DatabaseUnavailableError
from app.generation import generate
from app.repair import ALONE
from app.settings import Settings
from app.streaming.contract import decode
from loadtest.counters import Meter
from ops.doctor.examination import Subject, examine
from ops.doctor.finding import Severity
from ops.doctor.pooler import CHECK, examine_pooler
from ops.postgres_server import PostgresServer, running_postgres
from ops.stack import Stack, StackOptions, running_stack
from tests.app.test_away import settings_of
from tests.app.test_repair import HASTY, left_behind, repaired, said
from tests.ops.test_migrations import alembic
from tests.support.client import Client, Event, text_of
from tests.support.command import Said, streamgauge_here
from tests.support.pgbouncer import running_pgbouncer
from tests.support.serving import producing, serving
from tests.support.waiting import until_awaited

pytestmark = [pytest.mark.anyio, pytest.mark.long]
SESSIONS = 3
HELD_UP = "SELECT query FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xmin IS NOT NULL"
BACKENDS = ("polling", "pubsub", "streams")


@dataclass(frozen=True)
class Pooled:
    """The system, whose DATABASE_URL is the pooler's, and the server behind that."""

    stack: Stack
    server: PostgresServer

    def settings(self, **changes: str | float) -> Settings:
        return settings_of(self.stack, **{"database_pooler": True, "openai_api_key": "scripted", **changes})


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    """Its schema was made through the pooler, too."""
    with (
        running_postgres(tmp_path_factory.mktemp("postgres")) as server,
        running_pgbouncer(server.url, SESSIONS) as url,
    ):
        environment = {
            "DATABASE_URL": url,
            "STREAMGAUGE_DATABASE_POOLER": "true",
            "STREAMGAUGE_TIDY_EVERY_S": "3600",  # the tests repair by themselves
            "STREAMGAUGE_LEASE_GRACE_S": "46",  # what a process would set in its own sessions is not the pooler's
        }
        options = StackOptions(
            tmp_path_factory.mktemp("stack"), port=0, keep_data=False, environment=dict(os.environ) | environment
        )
        with running_stack(options) as stack:
            yield Pooled(stack, server)


@pytest.fixture
async def client(pooled: Pooled) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(base_url=pooled.stack.api_url, timeout=30) as http:
        yield Client(http)


@contextlib.asynccontextmanager
async def session(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a server, or to a pooler."""
    connection = await asyncpg.connect(url, timeout=10, **UNPREPARED)
    try:
        yield connection
    finally:
        await connection.close()


def assert_whole(events: list[Event]) -> None:
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert events[-1].record["chunk_type"] == "done"


async def test_a_pooler_that_nobody_vouches_for_is_refused(pooled: Pooled, tmp_path: Path) -> None:
    """`sslmode=verify-full` is taken at its word: another authority than the one that signed is none."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    address = pooled.stack.database_url.partition("?")[0]
    url = f"{address}?sslmode=verify-full&sslrootcert={tmp_path / 'other.pem'}"
    async with Database.connect(url, 1, pooler=True) as database:
        with pytest.raises(DatabaseUnavailableError, match="certificate verify failed"):
            await database.ping()


async def test_streams_are_whole_though_sessions_are_few(pooled: Pooled, client: Client) -> None:
    """Each viewer of forty gets what was committed, by three sessions where two processes have forty connections."""

    async def one(backend: str) -> None:
        posted = await client.post("ttft=0.05&gap=0.02&chunks=20", backend)
        events = await client.whole(posted.task_id)
        assert_whole(events)
        answer = await client.answer(posted)
        assert (answer["backend"], answer["content"]) == (backend, text_of(events))

    await asyncio.gather(*(one(backend) for backend, _ in zip(cycle(BACKENDS), range(40))))
    async with session(pooled.server.url) as connection:
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert await connection.fetchval(count) <= SESSIONS


async def test_a_stream_outlives_a_restart_of_the_database(pooled: Pooled, client: Client) -> None:
    """Its chunks are appended, or its message committed, as soon as the pooler has a session again."""

    async def one(backend: str, begun: asyncio.Event) -> None:
        posted = await client.post("ttft=0.02&gap=0.02&chunks=60", backend)
        events = []
        async for event in client.follow(posted.task_id):
            events.append(event)
            if len(events) == 3:
                begun.set()
        answer = await client.answer(posted)
        assert_whole(events)
        assert (answer["status"], answer["content"]) == ("complete", text_of(events))

    begun = [asyncio.Event() for _ in BACKENDS]
    async with asyncio.TaskGroup() as streams:
        for backend, beginning in zip(BACKENDS, begun, strict=True):
            streams.create_task(one(backend, beginning))
        await asyncio.gather(*(beginning.wait() for beginning in begun))
        pooled.server.process.restart()  # in this thread: the server's life is tied to that of the one that starts it


async def test_a_repair_frees_its_lock(pooled: Pooled) -> None:
    """Whoever repairs is alone, and afterwards nobody is: the lock goes with its transaction, whatever the session."""
    async with producing(pooled.settings(**HASTY)) as services:
        async with services.records.alone(ALONE) as first, services.records.alone(ALONE) as second:
            assert (first, second) == (True, False)
            async with session(pooled.server.url) as connection:
                assert await connection.fetch(HELD_UP) == [], "vacuum waits for an idle transaction"
        for backend in BACKENDS:
            task_id = await left_behind(services, backend, said(0, "so far"))
            message = (await repaired(services, task_id)).message
            assert (message.status, message.content, message.code) == ("failed", "so far", "producer_lost")
    async with session(pooled.server.url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_a_stream_is_handed_over(pooled: Pooled) -> None:
    """Whose chunk store is lost: its whole log goes to the database in one transaction; again changes nothing."""
    log = [said(0, "high "), said(1, "water")]
    async with producing(pooled.settings(**HASTY)) as services:
        task_id = await left_behind(services, "pubsub")
        for _ in range(2):
            assert await services.backends.safe.adopt(task_id, 1, log)
        entries = await services.backends.readers["polling"].get_chunks(task_id)
        pin = await services.records.pin(task_id)
        await repaired(services, task_id)
    assert [decode(entry.record) for entry in entries] == log
    assert pin is not None
    assert pin.backend == "polling"


async def test_a_stream_pinned_to_notify_is_still_to_be_read(pooled: Pooled) -> None:
    """A new message can't get it any more; one that has it is read from its rows, after each silence."""
    settings = pooled.settings(silence_s=0.1)
    async with producing(settings) as services, serving(settings) as client:
        conversation = await services.records.add_conversation(None)
        model = "scripted?ttft=0.02&gap=0.02&chunks=20"
        posted = await services.records.post(conversation.id, "hello", model, None, "notify", 60)
        assert posted is not None
        watching = asyncio.create_task(client.whole(str(posted.task_id)))
        await generate(services, posted.task_id, time_ns())
        events = await watching
        pin = await services.records.pin(posted.task_id)
    assert_whole(events)
    assert pin is not None
    assert pin.message.content == text_of(events)


async def test_the_flag_is_changed_through_it(pooled: Pooled, client: Client, tmp_path: Path) -> None:
    """By its commands, a rollback among them; the next message follows. `notify` is refused, and it says why."""

    async def told(*arguments: str) -> Said:
        url = pooled.stack.database_url
        given = {"DATABASE_URL": url, "STREAMGAUGE_DATABASE_POOLER": "true"}
        return await asyncio.to_thread(streamgauge_here, *arguments, folder=tmp_path, **given)

    refused = await told("flag", "set", "notify")
    assert refused.returncode == 2
    assert "STREAMGAUGE_DATABASE_POOLER" in refused.stderr
    assert (await told("rollback", "--drain")).returncode == 0
    posted = await client.post()
    assert_whole(await client.whole(posted.task_id))
    assert (await client.answer(posted))["backend"] == "polling"
    assert (await told("flag", "set", "pubsub")).returncode == 0


async def test_the_doctor_examines_through_it(pooled: Pooled) -> None:
    """All its checks, a canary included, find nothing to do; where the setting is forgotten, that alone."""
    found = await examine(Subject(pooled.settings(), (pooled.stack.api_url,)))
    assert [each for each in found if not each.is_well] == []
    assert f"canary {pooled.stack.api_url}" in {each.check for each in found}
    assert "as it is used" in next(each.finding for each in found if each.check == CHECK)
    unset = await examine(Subject(pooled.settings(database_pooler=False)))
    assert [each.check for each in unset if not each.is_well] == [CHECK]


async def test_the_doctor_tells_a_pooler_from_the_server(pooled: Pooled) -> None:
    """One that is used as the server is an error; a session mode, or the server itself, used as a pooler a note."""

    async def judged(url: str, *, pooler: bool) -> Severity:
        async with session(url) as connection:
            settings = pooled.settings(database_url=url, database_pooler=pooler)
            return (await examine_pooler(connection, settings)).severity

    pooler, server = pooled.stack.database_url, pooled.server.url
    assert await judged(pooler, pooler=False) is Severity.ERROR
    assert await judged(server, pooler=False) is Severity.OK
    assert await judged(server, pooler=True) is Severity.NOTE
    with running_pgbouncer(server, SESSIONS, "session") as sessions:
        assert await judged(sessions, pooler=False) is Severity.OK
        assert await judged(sessions, pooler=True) is Severity.NOTE


async def test_who_forgets_the_setting_is_told(pooled: Pooled) -> None:
    """A prepared statement that another session holds can't be had: the error says what to set."""
    with running_pgbouncer(pooled.server.url, 2) as url:
        async with Database.connect(url, 2) as database:

            async def ask() -> None:
                async with database.driver() as connection:
                    await connection.fetchval("SELECT pg_sleep($1)", 0.01)

            async def is_refused() -> bool:
                found = await asyncio.gather(ask(), ask(), return_exceptions=True)
                return any(isinstance(each, DatabaseUnavailableError) and "POOLER=true" in str(each) for each in found)

            await until_awaited(is_refused, "a statement meets another session")


def test_migrations_run_through_it(pooled: Pooled) -> None:
    """Again and again, whatever sessions they meet: they prepare nothing, and lock for their one transaction."""
    for _ in range(SESSIONS):
        alembic(pooled.stack.database_url, "upgrade", "head")


def test_the_load_test_counts_through_it(pooled: Pooled) -> None:
    """Transactions are the server's, though the pooler leads to one database alone."""
    with Meter(pooled.stack.database_url, None, time_ns) as meter:
        assert meter.read().transactions


async def test_no_session_keeps_anything(pooled: Pooled, client: Client) -> None:
    """No prepared statement, no channel, and no setting but those of the pooler's configuration."""
    kept = """
        SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_listening_channels()),
               current_setting('tcp_keepalives_idle'), current_setting('tcp_user_timeout'), current_setting('jit')
    """
    await asyncio.gather(*(client.post(backend=backend) for backend in BACKENDS))
    async with contextlib.AsyncExitStack() as opened:
        held = [await opened.enter_async_context(session(pooled.stack.database_url)) for _ in range(SESSIONS)]
        for connection in held:  # so that each has a session of its own
            await opened.enter_async_context(connection.transaction())
        found = [tuple(await connection.fetchrow(kept)) for connection in held]
    assert found == [(0, 0, "30", "60000", "off")] * SESSIONS
