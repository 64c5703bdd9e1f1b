"""What operators and callers send over HTTP is read as they meant it, or refused as theirs to correct."""

from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient

from app import flags
from app.api import problems
from app.database import Database, DataRefusedError
from app.rollout_record import JudgementWord, RolloutRecord, RolloutWord
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.app.test_flag_changes import TOKEN, flags_of
from tests.support.client import Client
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
WORD = RolloutWord(
    candidate="pubsub",
    baseline="polling",
    phase="watching",
    generation=3,
    steps=[10, 100],
    step=1,
    since=datetime(2026, 11, 25, 19, 36, 24, tzinfo=UTC),
    due_s=60,
    why="",
    judgement=JudgementWord(
        at=datetime(2026, 11, 25, 19, 37, 24, tzinfo=UTC),
        percent=10,
        verdict="hold",
        beside="polling now",
        decision="stays",
        objectives=[],
    ),
)


async def refusals(client: Client) -> list[str]:
    """What the metric says of requests that were refused as some server was away."""
    page = (await client.http.get("/metrics")).text
    return [line for line in page.splitlines() if line.startswith("streamgauge_posts_refused_total{")]


@pytest.mark.parametrize(
    "body",
    [
        {"by": "a\x00", "default": "notify"},
        {"by": "ada", "reason": "\x00", "default": "notify"},
        {"by": "ada", "user": "\x00", "backend": "notify"},
        {"by": "ada", "user": "", "backend": "notify"},
        {"by": " ", "default": "notify"},
        {"by": "ada", "reason": "\x1b[2J", "default": "notify"},
        {"by": "ada", "user": "eve"},
        {"by": "ada", "default": "notify", "backend": "notify"},
    ],
)
async def test_what_can_not_be_kept_is_refused(system: Stack, body: dict[str, Any]) -> None:
    """With 422, not as a database that is away; nothing is changed."""
    async with flags_of(system), serving(settings_of(system, operator_token="river")) as client:
        before = await refusals(client)
        refused = await client.http.put("/ops/flag", json=body, headers=TOKEN)
        assert refused.status_code == 422, refused.text
        rollback = {"by": body["by"], "reason": body.get("reason", "\n")}
        refused = await client.http.post("/ops/rollback", json=rollback, headers=TOKEN)
        assert (refused.status_code == 422) == (body["by"] != "ada" or rollback["reason"] != ""), refused.text
        assert (await client.http.get("/ops/flag", headers=TOKEN)).json()["generation"] == 0
        assert await refusals(client) == before


async def test_data_that_the_database_refuses_is_a_fault_of_ours(system: Stack) -> None:
    """By the driver and by the engine alike: 500, without an invitation to try again."""
    app = FastAPI()
    problems.install(app)
    async with Database.connect(system.database_url, 1) as database:

        @app.get("/driver")
        async def driver() -> None:
            async with database.driver() as connection:
                await connection.execute("SELECT $1::text", "\x00")

        @app.get("/engine")
        async def engine() -> None:
            async with database.transaction() as connection:
                await connection.exec_driver_sql("SELECT $1::text", ("\x00",))

        async with AsyncClient(transport=ASGITransport(app), base_url="http://here") as http:
            for path in ("/driver", "/engine"):
                answer = await http.get(path)
                assert (answer.status_code, DataRefusedError.__name__ in answer.json()["detail"]) == (500, True)
                assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("name", ["Зоя 💧".encode(), "Zoë".encode(), "Zoë".encode("latin-1"), ("ж" * 200).encode()])
async def test_a_user_is_matched_in_any_script(system: Stack, name: bytes) -> None:
    """As UTF-8, which clients send, or as the Latin-1 of old ones."""
    user = name.decode("latin-1" if name == "Zoë".encode("latin-1") else "utf-8")
    async with flags_of(system) as (changing, _, _), serving(settings_of(system)) as client:
        await changing.change(flags.target(user, "notify"), by="ada", reason="")
        conversation = (await client.http.post("/conversations")).json()["id"]
        posted = await client.http.post(
            f"/conversations/{conversation}/messages", json={"content": "hi"}, headers={b"X-Streamgauge-User": name}
        )
        assert posted.headers["X-Streamgauge-Backend"] == "notify"


async def test_asking_for_what_is_in_force_makes_no_generation(system: Stack) -> None:
    """The answer gives the one in force; "none" takes a target away; a plan is refused as its change would be."""
    async with flags_of(system), serving(settings_of(system, operator_token="river")) as client:

        async def put(**body: Any) -> Any:
            return await client.http.put("/ops/flag", json={"by": "ada", **body}, headers=TOKEN)

        made = (await put(user="eve", backend="notify")).json()["generation"]
        assert (await put(user="eve", backend="notify")).json()["generation"] == made
        assert (await put(user="eve", backend="none", expected=made - 1, dry_run=True)).status_code == 409
        assert (await put(user="eve", backend="none")).json()["after"]["users"] == {}


async def test_an_operator_sees_how_the_last_rollout_stands(system: Stack) -> None:
    """With the flag, as its controller told it; nobody else does, and before there was one there is none."""
    async with flags_of(system) as (_, _, database), serving(settings_of(system, operator_token="river")) as client:
        assert (await client.http.get("/ops/flag", headers=TOKEN)).json()["rollout"] is None
        await RolloutRecord(database).tell(WORD)
        try:
            assert (await client.http.get("/ops/flag")).status_code == 401
            heard = (await client.http.get("/ops/flag", headers=TOKEN)).json()["rollout"]
        finally:
            async with database.driver() as connection:
                await connection.execute("DELETE FROM rollout")
        assert heard["silent_s"] == pytest.approx(60 - heard["due_s"])
        assert heard["is_overdue"] is False
        assert RolloutWord(**{**heard, "due_s": 60}) == WORD
