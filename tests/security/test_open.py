"""Without keys nobody is told apart: this machine alone is served, unless the operator says otherwise."""

from collections.abc import AsyncIterator

import pytest

from app.settings import Settings
from tests.security.conftest import METRICS_TOKEN
from tests.support.client import Client
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
OPERATOR = "the-token-of-the-operator"
FROM_ELSEWHERE = ({"X-Forwarded-For": "192.0.2.7"}, {"Host": "chat.example.org"}, {"Host": "["}, {"Host": ""})
"""By a proxy on this machine; from a web page whose own name was made to lead here; and what can't be told."""


@pytest.fixture
def keyless_settings(guarded_settings: Settings) -> Settings:
    return guarded_settings.model_copy(update={"api_keys": {}, "metrics_token": ""})


@pytest.fixture
async def keyless(keyless_settings: Settings) -> AsyncIterator[Client]:
    """An API that was given nothing at all."""
    async with serving(keyless_settings) as client:
        yield client


async def test_this_machine_needs_no_configuration(keyless: Client) -> None:
    """By its addresses and by its name."""
    posted = await keyless.post()
    assert (await keyless.whole(posted.task_id))[-1].record["chunk_type"] == "done"
    port = keyless.http.base_url.port
    for host in (f"localhost:{port}", f"[::1]:{port}", f"127.0.0.1:{port}"):
        assert (await keyless.http.get("/metrics", headers={"Host": host})).status_code == 200
        assert (await keyless.http.post("/conversations", headers={"Host": host})).status_code == 201
    local = {"X-Forwarded-For": "127.0.0.1"}
    assert (await keyless.http.post("/conversations", headers=local)).status_code == 201


@pytest.mark.parametrize("given", FROM_ELSEWHERE, ids=str)
async def test_nobody_else_is_served(keyless: Client, given: dict[str, str]) -> None:
    """Whatever program serves the app: 403 with what to set, and for streams and metrics as well."""
    posted = await keyless.post("ttft=0&gap=0&chunks=1")
    for method, path in (
        ("POST", "/conversations"),
        ("GET", f"/conversations/{posted.conversation_id}"),
        ("GET", f"/stream/{posted.task_id}"),
        ("POST", f"/stream/{posted.task_id}/cancel"),
        ("POST", "/session"),
    ):
        refused = await keyless.http.request(method, path, headers=given)
        assert refused.status_code == 403, path
        assert {"STREAMGAUGE_API_KEYS", "STREAMGAUGE_OPEN=true"} <= set(refused.json()["detail"].split())
    assert (await keyless.http.get("/metrics", headers=given)).status_code == 403


async def test_the_operators_word_opens_it(keyless_settings: Settings) -> None:
    """To everybody, under any name."""
    async with serving(keyless_settings.model_copy(update={"open": True})) as client:
        for given in FROM_ELSEWHERE[:2]:
            assert (await client.http.post("/conversations", headers=given)).status_code == 201
            assert (await client.http.get("/metrics", headers=given)).status_code == 200


async def test_keys_serve_everybody_who_has_one(guarded_settings: Settings) -> None:
    """From anywhere; the metrics want a token of their own, or the operator's, or this host."""
    settings = guarded_settings.model_copy(update={"metrics_token": "", "operator_token": OPERATOR})
    async with serving(settings) as client:
        key = {"Authorization": "Bearer the-key-of-ada"}
        for given in FROM_ELSEWHERE[:2]:
            assert (await client.http.post("/conversations", headers=given | key)).status_code == 201
            assert (await client.http.get("/metrics", headers=given | key)).status_code == 403
            operators = {"Authorization": f"Bearer {OPERATOR}"}
            assert (await client.http.get("/metrics", headers=given | operators)).status_code == 200
        assert (await client.http.get("/metrics")).status_code == 200
    async with serving(settings.model_copy(update={"metrics_token": METRICS_TOKEN})) as client:
        assert (await client.http.get("/metrics")).status_code == 401
        for token in (OPERATOR, METRICS_TOKEN):
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.http.get("/metrics", headers=headers)).status_code == 200
