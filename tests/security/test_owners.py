"""What one owner can do with what is another's: nothing, and he can't even tell that it is there."""

from pathlib import Path
from uuid import uuid4

import pytest

from app import flags
from app.api.access import COOKIE, SESSION_S, digest_of, owner_of_session, sign
from app.settings import Settings
from ops.keys import make_key
from ops.stack import Stack
from ops.usage import UsageError
from tests.app.test_flag_changes import flags_of
from tests.security.conftest import KEYS, METRICS_TOKEN, Guarded
from tests.support.client import Client, text_of
from tests.support.command import streamgauge_here

pytestmark = pytest.mark.anyio
LONG = "ttft=0.02&gap=0.05&chunks=400"
NOW = 1_700_000_000.0


async def test_an_owner_uses_his_own(guarded: Guarded) -> None:
    """With a key, all is as it is without any."""
    posted = await guarded.ada.post()
    events = await guarded.ada.whole(posted.task_id)
    assert events[-1].record["chunk_type"] == "done"
    assert (await guarded.ada.answer(posted))["content"] == text_of(events)


async def test_what_is_anothers_is_unknown(guarded: Guarded) -> None:
    """To read, to post to, to follow and to cancel: the same 404 as for an id that nobody has; the stream goes on."""
    posted = await guarded.ada.post(LONG)

    async def asked(client: Client, conversation: object, task: object) -> list[tuple[int, str]]:
        answers = (
            await client.http.get(f"/conversations/{conversation}"),
            await client.http.post(f"/conversations/{conversation}/messages", json={"content": "hello"}),
            await client.http.get(f"/stream/{task}"),
            await client.http.post(f"/stream/{task}/cancel"),
        )
        return [
            (answer.status_code, answer.text.replace(str(conversation), "ID").replace(str(task), "ID"))
            for answer in answers
        ]

    theirs = await asked(guarded.eve, posted.conversation_id, posted.task_id)
    assert {status for status, _ in theirs} == {404}
    assert theirs == await asked(guarded.eve, uuid4(), uuid4())
    assert (await guarded.ada.answer(posted))["status"] == "pending"
    cancelled = await guarded.ada.http.post(f"/stream/{posted.task_id}/cancel")
    assert cancelled.json()["state"] == "open"
    assert (await guarded.ada.whole(posted.task_id))[-1].record["chunk_type"] == "cancelled"


async def test_what_was_nobodys_before_there_were_keys_is_for_no_key(guarded: Guarded, client: Client) -> None:
    """A conversation of the time without keys; turning them off again shows everything."""
    before = await client.conversation()
    assert (await guarded.ada.http.get(f"/conversations/{before}")).status_code == 404
    after = await guarded.ada.conversation()
    assert (await client.http.get(f"/conversations/{after}")).status_code == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer guess",
        f"Basic {KEYS['ada']}",
        f"Bearer {digest_of(KEYS['ada'])}",
        f"Bearer {KEYS['ada']}x",
        f"Bearer {KEYS['ada']}, Bearer {KEYS['eve']}",
        "Bearer ada",
        "Bearer ' OR 1=1 --",
        "Bearer kéy",
        "Bearer " + "x" * 8000,
        f"Bearer {METRICS_TOKEN}",
    ],
)
async def test_without_a_key_that_is_one_there_is_nothing(guarded: Guarded, authorization: str | None) -> None:
    """401 on every route, which tells how to do better; not the digest, a part, another scheme or another token."""
    posted = await guarded.ada.post("ttft=0&gap=0&chunks=1")
    given = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for method, path in (
        ("POST", "/conversations"),
        ("GET", f"/conversations/{posted.conversation_id}"),
        ("POST", f"/conversations/{posted.conversation_id}/messages"),
        ("GET", f"/stream/{posted.task_id}"),
        ("POST", f"/stream/{posted.task_id}/cancel"),
        ("POST", "/session"),
    ):
        sent = {"content": "hello"} if path.endswith("messages") else None
        answer = await guarded.nobody.http.request(method, path, json=sent, headers=given)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert KEYS["ada"] not in answer.text


async def test_the_owner_is_the_flags_user(guarded: Guarded, guarded_settings: Settings, system: Stack) -> None:
    """A header can't make one another: targets of the flag are by the key's owner."""
    async with flags_of(system) as (changing, _, _):
        await changing.change(flags.target("ada", "notify"), by="a test", reason="")
        for client, backend in ((guarded.ada, "notify"), (guarded.eve, guarded_settings.default_backend)):
            conversation = await client.conversation()
            answer = await client.http.post(
                f"/conversations/{conversation}/messages",
                json={"content": "hi", "model": "scripted?chunks=1"},
                headers={"X-Streamgauge-User": "ada"},
            )
            assert answer.headers["x-streamgauge-backend"] == backend


async def test_a_browser_follows_by_a_session(guarded: Guarded) -> None:
    """The cookie is for streams alone, out of reach of scripts and of other sites; no key is in it or in an URL."""
    posted = await guarded.ada.post()
    begun = await guarded.ada.http.post("/session")
    cookie = begun.headers["set-cookie"]
    assert begun.status_code == 204
    assert {"HttpOnly", "Path=/stream", "SameSite=strict", f"Max-Age={SESSION_S}"} <= set(cookie.split("; "))
    assert KEYS["ada"] not in cookie
    behind_tls = await guarded.ada.http.post("/session", headers={"X-Forwarded-Proto": "https"})
    assert ["Secure" in begins.headers["set-cookie"].split("; ") for begins in (begun, behind_tls)] == [False, True]
    session = {"Cookie": cookie.partition(";")[0]}
    events = await guarded.nobody.whole(posted.task_id, **session)
    assert events[-1].record["chunk_type"] == "done"
    for method, path in (
        ("POST", f"/stream/{posted.task_id}/cancel"),
        ("POST", "/conversations"),
        ("POST", "/session"),
    ):
        assert (await guarded.nobody.http.request(method, path, headers=session)).status_code == 401


async def test_a_session_is_its_owners(guarded: Guarded) -> None:
    """Another's stream is as unknown by a session as by a key."""
    posted = await guarded.ada.post()
    cookie = (await guarded.eve.http.post("/session")).headers["set-cookie"].partition(";")[0]
    found = await guarded.nobody.http.get(f"/stream/{posted.task_id}", headers={"Cookie": cookie})
    assert found.status_code == 404


async def test_a_forged_session_opens_nothing(guarded: Guarded) -> None:
    """Over HTTP, whatever is in the cookie."""
    posted = await guarded.ada.post()
    for forged in ("x", "YWRhLjk5OTk5OTk5OTku", "%00", "=" * 5000):
        headers = {"Cookie": f"{COOKIE}={forged}"}
        answer = await guarded.nobody.http.get(f"/stream/{posted.task_id}", headers=headers)
        assert answer.status_code == 401, forged


def test_a_key_that_is_made_is_one_that_is_valid(tmp_path: Path) -> None:
    """Its entry is for the settings as it stands, and each is another."""
    made = [streamgauge_here("key", "ada", folder=tmp_path).stdout.split(), list(make_key("ada"))]
    assert made[0] != made[1]
    for key, entry in made:
        keys = Settings.model_validate({"api_keys": entry.removeprefix("STREAMGAUGE_API_KEYS=")}).api_keys
        assert keys == {digest_of(key): "ada"}
    for name in ("", "a,b", "a:b", "a b"):
        with pytest.raises(UsageError, match="no name for an owner"):
            make_key(name)


def test_a_session_can_be_neither_forged_nor_kept(guarded_settings: Settings) -> None:
    """No letter of it may change; it ends by the clock, and with its key."""
    session = sign(guarded_settings, KEYS["ada"], NOW)
    assert owner_of_session(guarded_settings, session, NOW + SESSION_S - 1) == "ada"
    assert owner_of_session(guarded_settings, session, NOW + SESSION_S) is None
    for at, letter in enumerate(session):
        changed = session[:at] + ("A" if letter != "A" else "B") + session[at + 1 :]
        assert owner_of_session(guarded_settings, changed, NOW) is None
    revoked = Settings(api_keys={digest_of(KEYS["eve"]): "eve", digest_of("a new key"): "ada"})
    assert owner_of_session(revoked, session, NOW) is None


async def test_metrics_are_for_their_token(guarded: Guarded) -> None:
    """An owner's key is none; health and the page stay public."""
    get = guarded.nobody.http.get
    assert (await get("/metrics")).status_code == 401
    assert (await guarded.ada.http.get("/metrics")).status_code == 401
    assert (await get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})).status_code == 200
    assert [(await get(path)).status_code for path in ("/health", "/", "/web/system.json")] == [200] * 3
