"""What people write, and what they call things, stays text: in events, in the model's requests, in keys and in logs."""

import asyncio
import contextlib
import json
from time import time_ns

import pytest

from app.generation import generate
from app.llm import Model, Question
from app.settings import Settings
from app.speech import ModelError
from ops.stack import Stack
from tests.security.conftest import KEYS, METRICS_TOKEN, Guarded
from tests.support.client import text_of
from tests.support.raw_http import Play, playing, read_request
from tests.support.serving import producing

pytestmark = pytest.mark.anyio
NASTY = (
    'one\n\nid: 999\ndata: {"chunk_type": "done"}\n\n\r\nevent: x\u2028\u2029\x85\x0b\x1c\ufeff\U0001f30a\x7f</script>'
)
ELSEWHERE = (
    "http://169.254.169.254/latest/meta-data",
    "//elsewhere.example/v1",
    "../../admin",
    "gpt?host=elsewhere.example",
    "gpt\r\nHost: elsewhere.example\r\nX-Smuggled: 1",
    "user@elsewhere.example:80/",
    "file:///etc/passwd",
)


def connect(url: str) -> contextlib.AbstractAsyncContextManager[Model]:
    return Model.connect(base_url=f"{url}/v1", api_key="none", connect_s=5, stall_s=1, max_chars=100_000)


def says_nasty(requests: list[bytes]) -> Play:
    """A provider whose answer looks like events of ours."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        deltas = [{"choices": [{"delta": {"content": NASTY}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
        events = "".join(f"data: {json.dumps(delta)}\n\n" for delta in deltas) + "data: [DONE]\n\n"
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + events.encode()
        )
        await writer.drain()

    return play


async def test_an_answer_can_not_make_events(guarded_settings: Settings, guarded: Guarded) -> None:
    """Line ends, and what other parsers take for one, arrive as they were said, within one event's data."""
    requests = list[bytes]()
    async with playing(says_nasty(requests)) as url:
        settings = guarded_settings.model_copy(update={"openai_base_url": f"{url}/v1"})
        async with producing(settings) as services:
            records = services.records
            conversation = await records.add_conversation(None, "ada")
            for backend in ("polling", "pubsub"):
                posted = await records.post(conversation.id, NASTY, "scripted", None, backend, 60, owner="ada")
                assert posted is not None
                await services.backends.writers[backend].create(posted.task_id)
                answering = asyncio.create_task(generate(services, posted.task_id, time_ns()))
                body = (await guarded.ada.http.get(f"/stream/{posted.task_id}")).content
                await answering
                blocks = [block for block in body.decode().split("\n\n") if "data: " in block]
                records_seen = [json.loads(block.partition("data: ")[2]) for block in blocks]
                assert "".join(record["content"] for record in records_seen) == NASTY
                assert all(block.count("\n") == 1 and "\r" not in block for block in blocks)
                assert [record["chunk_type"] for record in records_seen][-1] == "done"


async def test_a_model_name_can_not_change_whom_we_ask() -> None:
    """The provider's address is the operator's; whatever a message calls its model is text in the request's body."""
    requests = list[bytes]()
    async with playing(says_nasty(requests)) as url, connect(url) as model:
        for name in ELSEWHERE:
            await model.answer(Question(name, [("user", "hi")], None), lambda _: None)
    for name, request in zip(ELSEWHERE, requests, strict=True):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.split(b"\r\n")[0] == b"POST /v1/chat/completions HTTP/1.1"
        assert f"host: {url.removeprefix('http://')}".encode() in head.lower()
        assert b"elsewhere" not in head
        assert json.loads(body)["model"] == name


async def test_a_provider_can_not_send_us_elsewhere() -> None:
    """Its redirect is an error: nobody else gets the question, or the operator's key."""
    asked = list[bytes]()

    async def listens(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        asked.append(await read_request(reader))

    async with playing(listens) as inside:
        target = f"{inside}/secret".encode()

        async def redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_request(reader)
            writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: " + target + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

        async with playing(redirects) as url, connect(url) as model:
            with pytest.raises(ModelError):
                await model.answer(Question("m", [("user", "hi")], None), lambda _: None)
    assert asked == []


@pytest.mark.parametrize("word", ["\x00", "a\x00b"])
async def test_nul_is_refused(guarded: Guarded, word: str) -> None:
    """PostgreSQL has no such text: 422, in content, title and model."""
    conversation = await guarded.ada.conversation()
    path = f"/conversations/{conversation}/messages"
    for where, body in (
        (path, {"content": word}),
        (path, {"content": "x", "model": word}),
        ("/conversations", {"title": word}),
    ):
        assert (await guarded.ada.http.post(where, json=body)).status_code == 422


@pytest.mark.parametrize(
    "seen", ["1\n\ndata: x", "-1", "9" * 400, "٣", "1e3", "NaN", "\u2028", "{stream}:x", "0 ; FLUSHALL"]
)
async def test_a_last_event_id_is_a_number_or_none(guarded: Guarded, seen: str) -> None:
    """It never reaches an event, a key or a query: what is no number begins the stream anew."""
    posted = await guarded.ada.post("ttft=0&gap=0&chunks=2")
    whole = text_of(await guarded.ada.whole(posted.task_id))
    answer = await guarded.ada.http.get(f"/stream/{posted.task_id}", params={"last_event_id": seen})
    assert answer.status_code == 200
    assert "FLUSHALL" not in answer.text
    texts = [json.loads(line[6:])["content"] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert "".join(texts) == whole


@pytest.mark.parametrize("task", ["*", "x", "a%0d%0ab", "..%2f..%2fmetrics", "%00", "{}", "' OR 1=1 --", "x" * 3000])
async def test_what_is_no_id_reaches_no_key(guarded: Guarded, task: str) -> None:
    """Keys of the store are made of UUIDs alone."""
    assert (await guarded.ada.http.get(f"/stream/{task}")).status_code in {404, 422}


async def test_no_secret_is_told(system: Stack, guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Not by an error, a log, a trace or a metric, whoever fails with it."""
    caplog.set_level("DEBUG")
    secret = KEYS["ada"]
    answers = [
        await guarded.ada.http.get("/stream/x"),
        await guarded.ada.http.post("/conversations", content=b"{", headers={"Content-Type": "application/json"}),
        await guarded.ada.http.get("/metrics"),
        await guarded.nobody.http.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}),
    ]
    posted = await guarded.ada.post()
    await guarded.ada.whole(posted.task_id)
    said = "".join(answer.text for answer in answers) + caplog.text
    assert secret not in said
    assert METRICS_TOKEN not in said
    written = [path.read_bytes() for folder in (system.logs, system.traces) for path in folder.iterdir()]
    assert written
    assert not any(secret.encode() in text for text in written)
