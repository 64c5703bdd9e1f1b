"""The flag decides where a NEW stream lives. A flip needs no restart and moves no live stream."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

from app.database import Database
from app.records import Records
from app.streaming.backends import NAMES
from app.streaming.flag import FORCED, BackendFlag, document_for
from ops.stack import Stack
from tests.support.client import Client

pytestmark = pytest.mark.anyio


def streamgauge(system: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**os.environ, **system.environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_a_flip_is_in_force_for_the_next_message_and_moves_no_live_stream(client: Client, system: Stack) -> None:
    """`streamgauge flag set` while a stream runs: that one ends where it began, the next begins elsewhere."""
    try:
        assert streamgauge(system, "flag", "set", "pubsub").returncode == 0
        live = await client.post("ttft=0.02&gap=0.02&chunks=100")
        following = client.follow(live.task_id)
        await anext(following)
        assert streamgauge(system, "flag", "set", "polling").returncode == 0
        following_message = await client.post()
        await client.whole(following_message.task_id)
        rest = [event async for event in following]
        assert rest[-1].record["chunk_type"] == "done"
        assert (await client.answer(live))["backend"] == "pubsub"
        assert (await client.answer(following_message))["backend"] == "polling"
        assert "new messages go to polling" in streamgauge(system, "flag", "show").stdout
    finally:
        streamgauge(system, "flag", "set", "pubsub")


def test_a_backend_that_does_not_exist_is_refused(system: Stack) -> None:
    """The command names those that do, and changes nothing."""
    before = streamgauge(system, "flag", "show").stdout
    refused = streamgauge(system, "flag", "set", "pigeon")
    assert refused.returncode != 0
    assert "polling, pubsub" in refused.stderr
    assert streamgauge(system, "flag", "show").stdout == before


async def test_without_a_document_the_default_holds_and_a_caller_may_force(database_url: str) -> None:
    """The header's attribute outranks the default, for that one message."""
    async with Database.connect(database_url, 1) as database:
        flag = BackendFlag(Records(database), "polling", NAMES)
        assert await flag.choose(uuid4(), {}) == "polling"
        assert await flag.choose(uuid4(), {FORCED: "pubsub"}) == "pubsub"
        assert await flag.choose(uuid4(), {FORCED: "pigeon"}) == "polling"


async def test_a_broken_document_leaves_the_last_good_one_in_force(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Loudly."""
    async with Database.connect(database_url, 1) as database:
        records = Records(database)
        flag = BackendFlag(records, "pubsub", NAMES)
        try:
            await records.add_flag(document_for("polling", NAMES))
            assert await flag.choose(uuid4(), {}) == "polling"
            await records.add_flag({"flags": {"stream-backend": {"state": "ENABLED", "variants": "none"}}})
            assert await flag.choose(uuid4(), {}) == "polling"
            assert any("broken" in record.message for record in caplog.records)
        finally:
            await _forget_documents(database)


async def _forget_documents(database: Database) -> None:
    async with database.driver() as connection:
        await connection.execute("DELETE FROM flag_document")
