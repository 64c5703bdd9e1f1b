"""The pool of connections: a wait for a busy one is no outage, and a database that is away is one soon."""

import asyncio
from math import inf
from pathlib import Path
from uuid import UUID

import pytest

from app import turns
from app.database import Database, DatabaseUnavailableError
from app.records import Final
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.database import migrated_postgres
from tests.support.serving import answering, begin, producing
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
PATIENCE_S = 0.5


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second without an answer is an outage here."""
    monkeypatch.setattr(turns, "LOOK_EVERY_S", PATIENCE_S / turns.LOOKS)


async def keep(database: Database, seconds: float) -> None:
    """Have a connection for so long, in the server."""
    async with database.driver() as connection:
        await connection.execute(f"SELECT pg_sleep({seconds})")


async def test_a_line_at_the_pool_is_no_outage_while_the_database_answers(system: Stack) -> None:
    """The last of this line waits four times as long as an outage takes to be one."""
    async with Database.connect(system.database_url, 2, busy_s=inf) as database:
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(keep(database, PATIENCE_S / 5))
        async with database.transaction() as connection:
            assert not connection.closed


async def test_a_request_comes_again_rather_than_wait_for_long(system: Stack) -> None:
    """In an API whose pool is busy, `busy_s` ends the wait though the database answers, and says what to do."""
    async with Database.connect(system.database_url, 1, busy_s=PATIENCE_S) as database:
        found = await asyncio.gather(*(keep(database, PATIENCE_S / 5) for _ in range(20)), return_exceptions=True)
    refused = [error for error in found if error is not None]
    assert 0 < len(refused) < 20
    assert all(isinstance(error, DatabaseUnavailableError) for error in refused)
    assert "STREAMGAUGE_DATABASE_POOL" in str(refused[0])


async def test_who_waits_for_a_database_that_is_away_is_told(tmp_path: Path) -> None:
    """Nobody in front is answered any more: those behind give up without having had a turn. Then all goes on."""
    with migrated_postgres(tmp_path) as server:
        async with Database.connect(server.url, 1, busy_s=inf) as database:
            await database.ping()
            server.process.pause()
            first, second = [asyncio.create_task(database.ping()) for _ in range(2)]
            try:
                async with asyncio.timeout(10 * PATIENCE_S):
                    with pytest.raises(DatabaseUnavailableError, match="answered"):
                        await second
            finally:
                server.process.resume()
            await first
            await database.ping()


async def test_who_is_cancelled_in_the_line_takes_no_turn_with_it(system: Stack) -> None:
    """Whenever that is: the pool is whole afterwards."""
    async with Database.connect(system.database_url, 1, busy_s=inf) as database:
        for _ in range(20):
            first = asyncio.create_task(keep(database, 0.01))
            waiting = [asyncio.create_task(database.ping()) for _ in range(5)]
            await first
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        async with asyncio.timeout(10):
            await database.ping()


async def test_claims_hold_up_no_commit(system: Stack) -> None:
    """A burst of them has half of the pool: the answers that are ready have the rest."""
    async with producing(settings_of(system, database_pool=2)) as services:
        conversation = await services.records.add_conversation(None)

        async def posted() -> UUID:
            made = await services.records.post(conversation.id, "hello", "scripted", None, "pubsub", 60)
            assert made is not None
            await services.backends.writers["pubsub"].create(made.task_id)
            return made.task_id

        ready, *burst = [await posted() for _ in range(6)]
        attempt = (await begin(services, ready)).attempt
        async with Database.connect(system.database_url, 1) as other, other.driver() as connection:
            locking = connection.transaction()
            await locking.start()
            await connection.execute("SELECT FROM stream WHERE task_id = ANY($1) FOR UPDATE", burst)
            claims = [asyncio.create_task(services.records.claim(task_id)) for task_id in burst]
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%claimed%'"
            await until_awaited(lambda: connection.fetchval(waits), "a claim waits for the lock")
            final = Final("complete", "whole", "stop", None, None, "pubsub")
            try:
                async with asyncio.timeout(PATIENCE_S):
                    assert await services.records.commit(ready, attempt, final)
            finally:
                await locking.rollback()
                jobs = [job for job in await asyncio.gather(*claims) if job is not None]
        assert [job.attempt for job in jobs] == [1] * 5
        for job in jobs:
            assert await services.records.commit(job.task_id, 1, final)


async def test_a_commits_budget_begins_with_its_first_failure(system: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that had to wait for longer than that is tried again all the same, and is whole."""
    async with producing(settings_of(system, database_pool=1, commit_budget_s=PATIENCE_S)) as services:
        task_id, working = await answering(services)

        async def has_failed() -> bool:
            return "trying again" in caplog.text

        async with services.records.alone(7):
            await until_awaited(has_failed, "the commit found the only connection taken for too long")
        await working
        pin = await services.records.pin(task_id)
    assert pin is not None
    assert (pin.state, pin.message.status) == ("done", "complete")
