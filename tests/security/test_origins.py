"""Pages of other origins may read nothing, but for origins that the operator names; streams are no exception."""

import asyncio

import pytest

from app.settings import Settings
from tests.security.conftest import Guarded, as_owner
from tests.support.client import Client
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
OURS, THEIRS = "https://chat.example.org", "https://elsewhere.example"
CORS = "access-control-allow-origin"
LONG = "ttft=0.02&gap=0.05&chunks=400"


async def asked(client: Client, origin: str) -> dict[str, str | None]:
    """What each answer allows a page of this origin."""
    posted = await client.post("ttft=0&gap=0&chunks=1")
    headers = {"Origin": origin}
    answers = [
        await client.http.get(path, headers=headers)
        for path in (f"/conversations/{posted.conversation_id}", f"/stream/{posted.task_id}", "/stream/x", "/nowhere")
    ]
    answers.append(await client.http.post("/conversations", content=b"{" * 500_000, headers=headers))
    assert [answer.status_code for answer in answers] == [200, 200, 422, 404, 413]
    return {str(answer.url.path): answer.headers.get(CORS) for answer in answers}


async def test_no_origin_is_let_in_by_itself(guarded: Guarded) -> None:
    """A preflight is no question that we know."""
    assert set((await asked(guarded.ada, THEIRS)).values()) == {None}
    wanted = {"Origin": THEIRS, "Access-Control-Request-Method": "POST"}
    preflight = await guarded.nobody.http.options("/conversations", headers=wanted)
    assert (preflight.status_code, preflight.headers.get(CORS)) == (405, None)


async def test_a_named_origin_may_use_a_key_and_no_other_may(guarded_settings: Settings) -> None:
    """Errors can be read as well; cookies stay at home; what a request says of itself is allowed or not, one by one."""
    settings = guarded_settings.model_copy(update={"cors_origins": (OURS,)})
    async with serving(settings) as client, as_owner(client, "ada") as ada:
        assert set((await asked(ada, OURS)).values()) == {OURS}
        assert set((await asked(ada, THEIRS)).values()) == {None}
        wanted = {"Origin": OURS, "Access-Control-Request-Method": "POST"}
        for header, status in (("authorization, last-event-id, x-streamgauge-backend", 200), ("x-other", 400)):
            asking = {**wanted, "Access-Control-Request-Headers": header}
            preflight = await client.http.options("/conversations", headers=asking)
            assert preflight.status_code == status
            assert "access-control-allow-credentials" not in preflight.headers
        foreign = await client.http.options("/conversations", headers={**wanted, "Origin": THEIRS})
        assert (foreign.status_code, foreign.headers.get(CORS)) == (400, None)


async def test_a_stream_is_not_held_back_for_an_origin(guarded_settings: Settings) -> None:
    """Its first words come while the answer goes on, with the backend's name for the page to read."""
    settings = guarded_settings.model_copy(update={"cors_origins": (OURS,)})
    async with serving(settings) as client, as_owner(client, "ada") as ada:
        posted = await ada.post(LONG)
        path = f"/stream/{posted.task_id}"
        async with asyncio.timeout(15), ada.http.stream("GET", path, headers={"Origin": OURS}) as response:
            assert "X-Streamgauge-Backend" in response.headers["access-control-expose-headers"]
            lines = response.aiter_lines()
            while not (await anext(lines)).startswith("data: "):
                pass
        await ada.http.post(f"{path}/cancel")


@pytest.mark.parametrize(
    "wrong", ["*", "chat.example.org", "https://chat.example.org/", "null", "https://*.example.org"]
)
def test_an_origin_is_named_as_browsers_name_it(wrong: str) -> None:
    """A star would be everybody, and anything else nobody, without a word."""
    with pytest.raises(ValueError, match="name each origin"):
        Settings.model_validate({"cors_origins": wrong})
    assert Settings.model_validate({"cors_origins": f"{OURS}, http://localhost:5173"}).cors_origins[0] == OURS
