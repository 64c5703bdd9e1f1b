"""Conversations and what bad input gets: a problem that says what to correct, and nothing half-made."""

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


@pytest.mark.parametrize("data", [b"", b"not json", b'{"content": ', b"\xff\xfe"])
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
