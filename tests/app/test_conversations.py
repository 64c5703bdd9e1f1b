"""Conversations and what bad input gets: a problem that says what to correct, and nothing half-made."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.client import Client

pytestmark = pytest.mark.anyio


async def test_a_conversation_starts_empty(client: Client) -> None:
    """With or without a body; a title is kept."""
    for sent, title in (({"title": "Rivers"}, "Rivers"), ({}, None), (None, None)):
        response = await client.http.post("/conversations", json=sent)
        made = response.json()
        assert (response.status_code, made["title"], made["messages"]) == (201, title, [])
        assert (await client.http.get(f"/conversations/{made['id']}")).json() == made


async def test_a_question_stands_before_its_answer(client: Client) -> None:
    """Reading a conversation gives its turns in order, the last one perhaps pending."""
    posted = await client.post("ttft=0.3&chunks=2")
    messages = (await client.http.get(f"/conversations/{posted.conversation_id}")).json()["messages"]
    assert [(turn["role"], turn["status"]) for turn in messages] == [("user", "complete"), ("assistant", "pending")]
    assert messages[1]["task_id"] == posted.task_id
    await client.whole(posted.task_id)


async def test_an_unknown_conversation_is_404(client: Client) -> None:
    """To read it, and to post to it."""
    for response in (
        await client.http.get(f"/conversations/{uuid4()}"),
        await client.http.post(f"/conversations/{uuid4()}/messages", json={"content": "hello"}),
    ):
        problem = response.json()
        assert (response.status_code, problem["status"], problem["title"]) == (404, 404, "Not Found")
        assert "POST /conversations" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "x" * 1001}, "content"),
        ({"content": 7}, "content"),
        ({"content": None}, "content"),
        ({"content": "nul \x00 byte"}, "content"),
        ({"content": "hi", "max_tokens": 0}, "max_tokens"),
        ({"content": "hi", "max_tokens": 10**9}, "max_tokens"),
        ({"content": "hi", "max_tokens": "many"}, "max_tokens"),
        ({"content": "hi", "max_tokens": "5"}, "max_tokens"),
        ({"content": "hi", "max_tokens": True}, "max_tokens"),
        ({"content": "hi", "model": "somebody-elses"}, "model"),
        (["content"], "body"),
    ],
)
async def test_a_body_that_does_not_validate_is_422(client: Client, body: Any, where: str) -> None:
    """The problem names the part, and the conversation stays as it was."""
    conversation = await client.conversation()
    response = await client.http.post(f"/conversations/{conversation}/messages", json=body)
    problem = response.json()
    assert response.status_code == 422, problem
    assert response.headers["content-type"] == "application/problem+json"
    assert any(where in error["where"] for error in problem["errors"])
    assert (await client.http.get(f"/conversations/{conversation}")).json()["messages"] == []


NO_JSON = {
    "empty": b"",
    "words": b"not json",
    "cut": b'{"content": ',
    "no text": b"\xff\xfe",
    "no UTF-8": b'{"content": "\xff"}',
    "too deep": b"[" * 8000,
    "too long a number": b'{"content": "hi", "max_tokens": ' + b"9" * 8000 + b"}",
}


@pytest.mark.parametrize("data", NO_JSON.values(), ids=NO_JSON)
async def test_a_body_that_is_no_json_is_422(client: Client, data: bytes) -> None:
    """Whatever the bytes are."""
    conversation = await client.conversation()
    response = await client.http.post(
        f"/conversations/{conversation}/messages", content=data, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 422
    assert response.json()["errors"]


async def test_a_backend_that_does_not_exist_is_422(client: Client) -> None:
    """The header names one of those that exist, or is left out."""
    conversation = await client.conversation()
    response = await client.http.post(
        f"/conversations/{conversation}/messages",
        json={"content": "hello"},
        headers={"X-Streamgauge-Backend": "pigeon"},
    )
    assert response.status_code == 422
    assert "polling, pubsub" in response.json()["errors"][0]["what"]


async def test_an_accepted_message_says_which_backend_holds_its_stream(client: Client) -> None:
    """The one that was forced, or the one that the flag chose."""
    conversation = await client.conversation()
    for forced in ("notify", None):
        headers = {"X-Streamgauge-Backend": forced} if forced else {}
        body = {"content": "hello", "max_tokens": 1}
        response = await client.http.post(f"/conversations/{conversation}/messages", json=body, headers=headers)
        told = response.headers["x-streamgauge-backend"]
        await client.whole(response.json()["task_id"])
        found = (await client.http.get(f"/conversations/{conversation}")).json()["messages"][-1]
        assert told == found["backend"]
        assert told == (forced or told)


async def test_ids_that_are_none_are_422(client: Client) -> None:
    """They never reach a query or a key."""
    assert (await client.http.get("/conversations/1%20OR%201=1")).status_code == 422
    assert (await client.http.post("/conversations/x/messages", json={"content": "hello"})).status_code == 422


async def test_other_paths_and_methods_are_problems_too(client: Client) -> None:
    """404 and 405 look like every other error."""
    for response, status in (
        (await client.http.get("/nowhere"), 404),
        (await client.http.delete("/conversations"), 405),
    ):
        assert (response.status_code, response.json()["status"]) == (status, status)
        assert response.headers["content-type"] == "application/problem+json"


async def test_the_longest_message_fits_however_it_is_escaped(client: Client) -> None:
    """Each of its characters may take a pair of surrogates."""
    conversation = await client.conversation()
    body = json.dumps({"content": "🌊" * 1000})
    assert len(body) > 12_000
    response = await client.http.post(
        f"/conversations/{conversation}/messages", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 202, response.text
    await client.whole(response.json()["task_id"])


async def refused_after(client: Client, path: str, *pieces: bytes) -> None:
    """Post this much of a request, and no more; the answer comes all the same."""
    reader, writer = await asyncio.open_connection(client.http.base_url.host, client.http.base_url.port)
    try:
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode())
        writer.writelines(pieces)
        async with asyncio.timeout(10):
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            problem = json.loads(await reader.readuntil(b"}"))
    finally:
        writer.close()
    assert head.startswith(b"http/1.1 413 ")
    assert b"content-type: application/problem+json" in head
    assert "STREAMGAUGE_MAX_CONTENT_CHARS" in problem["detail"]


async def test_a_body_that_is_too_long_is_refused_before_it_comes(client: Client) -> None:
    """By the length that its head declares, on every route."""
    for path in ("/conversations", f"/conversations/{uuid4()}/messages", f"/stream/{uuid4()}/cancel"):
        await refused_after(client, path, b"Content-Length: 200000000\r\n\r\n")


async def test_a_body_of_unknown_length_is_refused_while_it_comes(client: Client) -> None:
    """As soon as it is too much, for one that never ends."""
    piece = b"2710\r\n%b\r\n" % (b"x" * 10_000)
    await refused_after(client, "/conversations", b"Transfer-Encoding: chunked\r\n\r\n", *[piece] * 3)
