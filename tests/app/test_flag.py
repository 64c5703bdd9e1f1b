"""The flag decides where a NEW stream lives. A flip needs no restart and moves no live stream."""

import asyncio
import json
import os
import subprocess
import sys
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from app.database import Database
from app.flag_records import FlagRecords
from app.records import Records, StaleFlagError
from app.settings import Settings
from app.streaming.backends import NAMES, offered
from app.streaming.flag import NO_GENERATION, BackendFlag
from app.streaming.flag_document import FORCED, document_for
from ops.flag_commands import commands
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.client import Client
from tests.support.serving import serving
from tests.support.valkey import running_valkey

pytestmark = pytest.mark.anyio


def streamgauge(system: Stack, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**os.environ, **system.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def told(system: Stack, *arguments: str) -> str:
    """What a command says that is not refused; it needs no process of its own for that."""
    done = CliRunner().invoke(commands, arguments, env=system.environment())
    assert done.exit_code == 0, done.output
    return done.stdout


def in_force(system: Stack) -> list[str]:
    """What `show` says of the flag, without the live streams: those of other tests end meanwhile."""
    return [line for line in told(system, "show").splitlines() if not line.startswith("Live streams:")]


async def test_a_flip_is_in_force_for_the_next_message_and_moves_no_live_stream(client: Client, system: Stack) -> None:
    """`streamgauge flag set` while a stream runs: that one ends where it began, the next begins elsewhere."""
    try:
        await asyncio.to_thread(told, system, "set", "pubsub")
        live = await client.post("ttft=0.02&gap=0.02&chunks=100")
        following = client.follow(live.task_id)
        await anext(following)
        await asyncio.to_thread(told, system, "set", "polling")
        following_message = await client.post()
        await client.whole(following_message.task_id)
        rest = [event async for event in following]
        assert rest[-1].record["chunk_type"] == "done"
        assert (await client.answer(live))["backend"] == "pubsub"
        assert (await client.answer(following_message))["backend"] == "polling"
        assert "new messages go to polling" in await asyncio.to_thread(told, system, "show")
    finally:
        await asyncio.to_thread(told, system, "set", "pubsub")


def test_a_backend_that_does_not_exist_is_refused(system: Stack) -> None:
    """The command names those that do, and changes nothing."""
    before = in_force(system)
    refused = streamgauge(system, "flag", "set", "pigeon")
    assert refused.returncode != 0
    assert "polling, pubsub" in refused.stderr
    assert in_force(system) == before


def test_a_backend_that_a_cluster_lacks_is_refused(system: Stack) -> None:
    """The command says why, and what to use; a document that was set elsewhere sends nobody there."""
    before = in_force(system)
    environment = {"STREAMGAUGE_STORE_CLUSTER": "true", "BROKER_URL": system.redis_url}
    refused = streamgauge(system, "flag", "set", "streams", **environment)
    assert refused.returncode != 0
    assert "use pubsub" in refused.stderr
    assert in_force(system) == before
    on_a_cluster = offered(Settings(store_cluster=True, broker_url="redis://single/0"))
    assert set(NAMES) - set(on_a_cluster) == {"streams"}
    flag = BackendFlag("pubsub", "polling", on_a_cluster)
    flag.learn(1, json.dumps(document_for("streams", NAMES)))
    assert flag.choose(uuid4(), {}) == "pubsub"


async def test_a_caller_can_not_force_a_backend_that_a_cluster_lacks(system: Stack) -> None:
    """422, which names those there are."""
    async with serving(settings_of(system, store_cluster=True)) as client:
        conversation = await client.conversation()
        response = await client.http.post(
            f"/conversations/{conversation}/messages",
            json={"content": "hello"},
            headers={"X-Streamgauge-Backend": "streams"},
        )
        assert response.status_code == 422
        assert "pubsub" in response.json()["errors"][0]["what"]
        assert "streams" not in response.json()["errors"][0]["what"]


def test_without_a_document_the_default_holds_and_a_caller_may_force() -> None:
    """The header's attribute outranks the default, for that one message."""
    flag = BackendFlag("polling", "polling", NAMES)
    assert flag.choose(uuid4(), {}) == "polling"
    assert flag.choose(uuid4(), {FORCED: "pubsub"}) == "pubsub"
    assert flag.choose(uuid4(), {FORCED: "pigeon"}) == "polling"
    flag.learn(1, json.dumps(document_for("pubsub", NAMES)))
    assert flag.choose(uuid4(), {}) == "pubsub"
    flag.learn(NO_GENERATION, None)  # somebody deleted the documents
    assert flag.choose(uuid4(), {}) == "polling"


def test_a_broken_document_leaves_the_last_good_one_in_force(caplog: pytest.LogCaptureFixture) -> None:
    """Loudly, and once: its generation is the known one all the same."""
    flag = BackendFlag("pubsub", "polling", NAMES)
    flag.learn(1, json.dumps(document_for("polling", NAMES)))
    flag.learn(2, json.dumps({"flags": {"stream-backend": {"state": "ENABLED", "variants": "none"}}}))
    assert (flag.choose(uuid4(), {}), flag.generation) == ("polling", 2)
    assert any("broken" in record.message for record in caplog.records)


@pytest.mark.parametrize("rule", ['{"/": [1, 0]}', '{"%": [1, 0]}', '{"!": ' * 5_000 + "1" + "}" * 5_000])
def test_a_document_that_makes_its_evaluator_fail_is_broken_like_any_other(rule: str) -> None:
    """Whatever the evaluator raises: a process that did not get past it could store no message any more."""
    flag = BackendFlag("pubsub", "polling", NAMES)
    flag.learn(1, json.dumps(document_for("polling", NAMES)))
    text = json.dumps(document_for("pubsub", NAMES))
    targeting = json.dumps(document_for("pubsub", NAMES)["flags"]["stream-backend"]["targeting"])
    assert targeting in text
    flag.learn(2, text.replace(targeting, rule))
    assert (flag.choose(uuid4(), {}), flag.generation) == ("polling", 2)


async def test_a_message_chosen_by_an_older_generation_is_not_stored(database_url: str) -> None:
    """The statement that stores it gives the newest document instead; without a document, by the default alone."""
    async with Database.connect(database_url, 1) as database:
        records = Records(database)
        conversation = (await records.add_conversation(None)).id

        async def post(generation: int | None) -> bool:
            return bool(await records.post(conversation, "hi", "scripted", None, "polling", 60, generation))

        try:
            assert await post(NO_GENERATION)
            newest = await FlagRecords(database).add(document_for("polling", NAMES))
            with pytest.raises(StaleFlagError) as stale:
                await post(NO_GENERATION)
            assert stale.value.generation == newest
            assert json.loads(stale.value.document or "") == document_for("polling", NAMES)
            assert await post(newest)
        finally:
            await _forget_documents(database)
        with pytest.raises(StaleFlagError) as stale:
            await post(newest)
        assert (stale.value.generation, stale.value.document) == (NO_GENERATION, None)
        found = await records.conversation(conversation)
        assert found is not None
        assert len(found[1]) == 4, "two of the four messages were stored, each with its answer"


async def test_flips_under_load_are_in_force_for_every_next_message(system: Stack) -> None:
    """Two API processes that each know an older generation, many POSTs at once, again and again: none is late."""
    with running_valkey() as broker:  # of its own: no worker moves these streams
        settings = settings_of(system, broker_url=broker.url)
        async with (
            serving(settings) as one,
            serving(settings) as other,
            Database.connect(settings.database_url, 1) as db,
        ):
            records = Records(db)
            try:
                for backend in ("polling", "pubsub") * 3:
                    await FlagRecords(db).add(document_for(backend, NAMES))
                    posted = await asyncio.gather(*(client.post() for client in (one, other) * 5))
                    pins = [await records.pin(UUID(each.task_id)) for each in posted]
                    assert {pin.backend for pin in pins if pin} == {backend}
                    with broker.client() as client:
                        assert client.llen("celery") == 10, "each is enqueued once"
                        client.delete("celery")
            finally:
                await _forget_documents(db)


async def _forget_documents(database: Database) -> None:
    async with database.driver() as connection:
        await connection.execute("DELETE FROM flag_document")
