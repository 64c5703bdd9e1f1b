"""Servers that are away: a 503 that says what to check, nothing half-made, and live streams that go on."""

import asyncio
from time import monotonic, time_ns
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import pytest

from app.database import Database, DatabaseUnavailableError
from app.generation import generate
from app.main import open_services
from app.records import Records
from app.settings import Settings
from ops.stack import Stack
from tests.support.client import Client, text_of
from tests.support.serving import begin, producing, serving
from tests.support.valkey import running_valkey
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
NOWHERE = "redis://127.0.0.1:1/0"


def settings_of(system: Stack, **changes: str | float) -> Settings:
    return Settings(
        api_drain_s=float(changes.pop("api_drain_s", 0.2)),
        redis_url=str(changes.pop("redis_url", system.redis_url)),
        broker_url=str(changes.pop("broker_url", system.redis_url)),
        database_url=str(changes.pop("database_url", system.database_url)),
        openai_base_url=system.openai_base_url,
        openai_model="scripted",
        allowed_models="scripted*",
        **changes,  # type: ignore[arg-type]  # the settings' own names
    )


async def rows(system: Stack, table: str) -> int:
    connection = await asyncpg.connect(system.database_url)
    try:
        return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
    finally:
        await connection.close()


@pytest.mark.parametrize("backend", ["polling", "pubsub", "streams"])
async def test_a_dead_broker_makes_a_post_503_and_leaves_nothing(system: Stack, backend: str) -> None:
    """Neither a message nor a stream is left behind, and the caller learns when to try again."""
    async with serving(settings_of(system, broker_url=NOWHERE)) as client:
        conversation = await client.conversation()
        before = await rows(system, "stream")
        response = await client.http.post(
            f"/conversations/{conversation}/messages",
            json={"content": "hello"},
            headers={"X-Streamgauge-Backend": backend},
        )
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        assert "BROKER_URL" in response.json()["detail"]
        assert (await client.http.get(f"/conversations/{conversation}")).json()["messages"] == []
        assert await rows(system, "stream") == before
        ready = await client.http.get("/ready")
        assert ready.status_code == 503
        assert {name for name, found in ready.json()["dependencies"].items() if not found["ok"]} == {"broker"}


@pytest.mark.parametrize("backend", ["pubsub", "streams"])
async def test_a_dead_chunk_store_makes_a_post_503_and_spares_polling(system: Stack, backend: str) -> None:
    """Messages whose backend is well are served as ever."""
    async with serving(settings_of(system, redis_url=NOWHERE)) as client:
        conversation = await client.conversation()
        response = await client.http.post(
            f"/conversations/{conversation}/messages",
            json={"content": "hello"},
            headers={"X-Streamgauge-Backend": backend},
        )
        assert response.status_code == 503
        assert (await client.http.get(f"/conversations/{conversation}")).json()["messages"] == []
        posted = await client.post(backend="polling")
        assert text_of(await client.whole(posted.task_id)) == (await client.answer(posted))["content"] != ""


async def test_a_dead_database_makes_everything_503(system: Stack) -> None:
    """And readiness names it."""
    url = "postgresql://nobody:none@127.0.0.1:1/nothing"
    async with serving(settings_of(system, database_url=url)) as client:
        response = await client.http.post("/conversations")
        assert response.status_code == 503
        assert "DATABASE_URL" in response.json()["detail"]
        assert not (await client.http.get("/ready")).json()["dependencies"]["database"]["ok"]
        assert (await client.http.get("/health")).status_code == 200


async def test_a_database_that_refuses_connections_is_away(system: Stack) -> None:
    """As one does that starts up, or has no connection left: here it is the password that it does not like."""
    password = urlsplit(system.database_url).password
    assert password
    async with Database.connect(system.database_url.replace(password, "wrong"), 1) as database:
        with pytest.raises(DatabaseUnavailableError):
            await database.ping()
        with pytest.raises(DatabaseUnavailableError):
            await Records(database).conversation(UUID(int=7))


async def test_a_log_that_is_gone_is_rebuilt_from_the_message(system: Stack) -> None:
    """After the TTL a viewer gets the whole answer in one piece, from the database."""
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url)
        async with producing(settings) as services, serving(settings) as client:
            conversation = await services.records.add_conversation(None)
            posted = await services.records.post(conversation.id, "hi", "scripted?chunks=5", None, "pubsub", 60)
            assert posted is not None
            await services.backends.writers["pubsub"].create(posted.task_id)
            await generate(services, posted.task_id, time_ns())
            with store.client() as redis:
                redis.flushall()
            events = await client.whole(str(posted.task_id))
            resumed = await client.whole(str(posted.task_id), **{"Last-Event-ID": "3"})
            last = {"Last-Event-ID": str(events[-1].id)}
            over = await client.http.get(f"/stream/{posted.task_id}", headers=last)
            pin = await services.records.pin(posted.task_id)
    assert pin is not None
    assert [event.record["chunk_type"] for event in events] == ["reset", "content", "done"]
    assert over.status_code == 204, "an EventSource must not come back for ever"
    assert text_of(events) == text_of(resumed) == pin.message.content != ""
    assert resumed[0].record["chunk_type"] == "reset"


async def test_a_lost_producer_is_closed_by_its_viewer(system: Stack) -> None:
    """With no worker left, stream and message end with `failed/producer_lost`, after lease and grace."""
    settings = settings_of(system, lease_s=0.3, lease_grace_s=0.2, silence_s=0.2, queue_patience_s=0.3)
    async with producing(settings) as services, serving(settings) as client:
        for backend in ("polling", "pubsub", "streams"):
            conversation = await services.records.add_conversation(None)
            posted = await services.records.post(conversation.id, "hello", "scripted", None, backend, 0.3)
            assert posted is not None
            await services.backends.writers[backend].create(posted.task_id)
            async with asyncio.timeout(10):
                events = await client.whole(str(posted.task_id))
            pin = await services.records.pin(posted.task_id)
            assert [event.record.get("code") for event in events] == ["producer_lost"]
            assert pin is not None
            assert pin.message.status == "failed"


async def test_new_messages_avoid_a_store_that_is_away_and_return_to_it(system: Stack) -> None:
    """They go to `polling` by themselves, at once, and back only after the store has been well for a while."""
    with running_valkey() as store, running_valkey() as broker:  # of its own: no worker moves these streams
        settings = settings_of(system, redis_url=store.url, broker_url=broker.url, store_back_s=1)
        async with serving(settings) as client:
            assert await pinned(client, settings) == "pubsub"
            store.kill()
            assert await pinned(client, settings) == "polling"
            store.start()

            async def has_returned() -> bool:
                return await pinned(client, settings) == "pubsub"

            await until_awaited(has_returned, "new messages return to the chunk store")


async def test_a_loop_that_is_late_is_no_store_that_is_away(system: Stack) -> None:
    """Under an overload of its own the API leaves new messages where they are: elsewhere they cost more."""
    patience_s = 0.2
    async with open_services(settings_of(system, store_patience_s=patience_s)) as services:
        for _ in range(30):
            hold_up_the_loop(patience_s)
            await asyncio.sleep(0)  # a turn for the loop, which looks at the store
            assert not services.health.away


def hold_up_the_loop(seconds: float) -> None:
    until = monotonic() + seconds
    while monotonic() < until:
        pass


async def test_a_store_that_says_nothing_is_away_within_the_patience(system: Stack) -> None:
    """Also one that accepts all and never answers."""
    with running_valkey() as store:
        async with open_services(settings_of(system, redis_url=store.url, store_patience_s=0.3)) as services:
            store.pause()
            try:

                async def is_away() -> bool:
                    return services.health.away

                await until_awaited(is_away, "the silent store is away", timeout_s=3)
            finally:
                store.resume()


async def test_a_forced_backend_is_never_swapped(system: Stack) -> None:
    """A caller who names a backend gets that one or a 503."""
    async with serving(settings_of(system, redis_url=NOWHERE)) as client:
        conversation = await client.conversation()
        response = await client.http.post(
            f"/conversations/{conversation}/messages",
            json={"content": "hello"},
            headers={"X-Streamgauge-Backend": "pubsub"},
        )
        assert response.status_code == 503


async def test_a_stream_whose_store_and_producer_are_both_lost_ends(system: Stack) -> None:
    """Its viewers, of several API processes, are told `producer_lost` after lease and grace, never left hanging."""
    with running_valkey() as store:
        settings = settings_of(system, redis_url=store.url, lease_s=0.5, lease_grace_s=0.5)
        async with producing(settings) as services, serving(settings) as client, serving(settings) as other:
            conversation = await services.records.add_conversation(None)
            posted = await services.records.post(conversation.id, "hello", "scripted", None, "pubsub", 60)
            assert posted is not None
            await services.backends.writers["pubsub"].create(posted.task_id)
            await begin(services, posted.task_id)
            watching = [asyncio.create_task(viewer.whole(str(posted.task_id))) for viewer in (client, other)]
            store.kill()
            for events in await asyncio.gather(*watching):
                end = events[-1].record
                assert (end["chunk_type"], end["code"]) == ("failed", "producer_lost")
            pin = await services.records.pin(posted.task_id)
    assert pin is not None
    assert (pin.state, pin.message.status) == ("failed", "failed")


async def pinned(client: Client, settings: Settings) -> str:
    """Post a message that names no backend; gives where it went."""
    posted = await client.post()
    connection = await asyncpg.connect(settings.database_url)
    try:
        return str(await connection.fetchval("SELECT backend FROM stream WHERE task_id = $1", UUID(posted.task_id)))
    finally:
        await connection.close()
