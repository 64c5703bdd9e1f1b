"""The scripted model answers the real `openai` SDK as the real service would, and fails when told to."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.support.model_server import running_model_server
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "How high is the river?"}]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_model_server() as base:
        yield base


@pytest.fixture
async def client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=20) as sdk:
        yield sdk


async def start(client: openai.AsyncOpenAI, script: str, **more: Any) -> openai.AsyncStream[ChatCompletionChunk]:
    options = {"stream": True, "stream_options": {"include_usage": True}, **more}
    stream = await client.chat.completions.create(model=f"scripted?{script}", messages=MESSAGES, **options)  # type: ignore[arg-type]  # plain dicts
    assert isinstance(stream, openai.AsyncStream)
    return stream


async def say(client: openai.AsyncOpenAI, script: str, **more: Any) -> list[ChatCompletionChunk]:
    return [chunk async for chunk in await start(client, script, **more)]


async def note(stream: openai.AsyncStream[ChatCompletionChunk], seen: list[ChatCompletionChunk]) -> None:
    async for chunk in stream:
        seen.append(chunk)  # noqa: PERF401 - what came before an error must be kept


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def test_a_stream_has_deltas_a_reason_and_its_usage(client: openai.AsyncOpenAI) -> None:
    """A role first, then as many deltas as asked for, `stop`, and a last chunk with the usage alone."""
    chunks = await say(client, "ttft=0.01&gap=0.001&chunks=12")
    assert chunks[0].choices[0].delta.role == "assistant"
    assert sum(bool(choice.delta.content) for chunk in chunks for choice in chunk.choices) == 12
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    usage = chunks[-1].usage
    assert not chunks[-1].choices
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 12, 17)
    assert all(chunk.system_fingerprint == "scripted" for chunk in chunks)


async def test_max_tokens_cuts_the_answer_short(client: openai.AsyncOpenAI) -> None:
    """With the reason `length`; the words are those of the longer answer."""
    short = await say(client, "ttft=0&gap=0&chunks=50", max_tokens=5)
    assert [chunk.choices[0].finish_reason for chunk in short if chunk.choices][-1] == "length"
    assert text(await say(client, "ttft=0&gap=0&chunks=50")).startswith(text(short))


async def test_an_answer_in_one_piece(client: openai.AsyncOpenAI) -> None:
    """Without `stream` the same text comes as one message."""
    answer = await client.chat.completions.create(model="scripted?ttft=0&gap=0&chunks=9", messages=MESSAGES)  # type: ignore[arg-type]  # a plain dict
    assert answer.choices[0].message.content == text(await say(client, "ttft=0&gap=0&chunks=9"))


async def test_the_models_are_listed_as_scripted(client: openai.AsyncOpenAI) -> None:
    """Nobody takes them for real ones, and each listed name can be asked."""
    models = [model async for model in client.models.list()]
    assert {"scripted", "scripted?profile=chat"} <= {model.id for model in models}
    assert all("scripted" in model.owned_by for model in models)


async def test_a_slow_reader_does_not_push_the_schedule_back(url: str) -> None:
    """The instants are absolute: while a reader sleeps the answer goes on, and all of it is there afterwards."""
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    body = {"model": "scripted?ttft=0&gap=0.005&chunks=60", "messages": MESSAGES, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    response = await asyncio.to_thread(connection.getresponse)
    await until_awaited(lambda: nobody_is_served(url), "the answer ended although nobody read it")
    assert response.read().count(b'"content":') >= 60
    connection.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [("429", openai.RateLimitError), ("500", openai.InternalServerError), ("refuse", openai.APIConnectionError)],
)
async def test_faults_before_the_answer(client: openai.AsyncOpenAI, fault: str, error: type[Exception]) -> None:
    """Each is what the SDK takes it for."""
    with pytest.raises(error):
        await say(client, f"fault={fault}")


async def test_a_429_says_when_to_try_again(url: str) -> None:
    """By Retry-After."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    body = json.dumps({"model": "scripted?fault=429", "messages": MESSAGES})
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    assert (response.status, response.headers["Retry-After"]) == (429, "1")
    connection.close()


async def test_a_cut_ends_the_connection_in_mid_answer(client: openai.AsyncOpenAI) -> None:
    """After exactly the deltas that were asked for."""
    seen: list[ChatCompletionChunk] = []
    stream = await start(client, "ttft=0&gap=0.001&chunks=9&fault=cut&at=4")
    with pytest.raises(openai.APIConnectionError):
        await note(stream, seen)
    assert sum(bool(chunk.choices[0].delta.content) for chunk in seen) == 4


async def test_a_reader_who_leaves_frees_the_stream(url: str, client: openai.AsyncOpenAI) -> None:
    """Also one that stalls for ever."""
    stream = await start(client, "ttft=0&gap=0&fault=stall&at=2")
    await anext(stream)
    assert await open_streams(url) == 1
    await stream.close()
    await until_awaited(lambda: nobody_is_served(url), "the stream was freed")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"model": "scripted", "messages": []}', 400),
        (b'{"model": "scripted?gap=soon", "messages": [{"role": "user", "content": "x"}]}', 400),
        (b'{"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}', 404),
    ],
)
async def test_bad_requests_get_openais_form_of_an_error(url: str, body: bytes, status: int) -> None:
    """With a message that says what to do."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("POST", "/v1/chat/completions", body)
    response = connection.getresponse()
    error = json.loads(response.read())["error"]
    assert response.status == status
    assert {"message", "type", "code"} <= set(error)
    connection.close()


async def open_streams(url: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.request("GET", "/stats")
    stats = json.loads(connection.getresponse().read())
    connection.close()
    return int(stats["open_streams"])


async def nobody_is_served(url: str) -> bool:
    return await open_streams(url) == 0
