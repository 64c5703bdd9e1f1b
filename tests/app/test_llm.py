"""The model client understands each way in which a provider may stream, and says how one failed."""

import asyncio
import contextlib
import gzip
import json
import time

import pytest

from app.llm import Model, Question
from app.speech import MAX_WHOLE, Delta, ModelError
from tests.support.raw_http import playing, read_request, says
from tests.support.waiting import until_awaited

QUESTION = Question("scripted", [("user", "How high is the river?")], None)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TEXT = "Grüße, river"
EVENTS = (
    'data: {"choices":[{"delta":{"role":"assistant"}}]}\r\n\r\n'
    ": a comment\r\n\r\n"
    'event: x\ndata:{"choices":[{"delta":{"content":"Grüße, "}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"river"},"finish_reason":null}]}\n\n'
    'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
    'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    "data: [DONE]\n\n"
).encode()
WHOLE = (
    '{"object":"chat.completion","choices":[{"message":{"role":"assistant","content":"Grüße, river"},'
    '"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
).encode()


def connect(url: str, max_chars: int = 100_000) -> contextlib.AbstractAsyncContextManager[Model]:
    return Model.connect(base_url=f"{url}/v1", api_key="none", connect_s=5, stall_s=1, max_chars=max_chars)


async def ask(url: str, max_chars: int = 100_000) -> list[Delta]:
    async with connect(url, max_chars) as model:
        deltas = list[Delta]()
        await model.answer(QUESTION, deltas.append)
        return deltas


def check(deltas: list[Delta]) -> None:
    assert "".join(delta.text for delta in deltas) == TEXT
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["stop"]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert [delta.usage for delta in deltas if delta.usage] == [usage]


async def test_the_question_goes_out_as_the_sdk_would_write_it() -> None:
    """Its whole history in order, what was asked for besides, and the operator's key."""
    requests = list[bytes]()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(STREAM + b"\r\n" + EVENTS)

    history = [("user", "How high is the river?"), ("assistant", "Grüße"), ("user", "And now?")]
    async with playing(play) as url, connect(url) as model:
        await model.answer(Question("scripted", history, 7), lambda _: None)
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert b"authorization: bearer none" in head.lower()
    assert json.loads(body) == {
        "messages": [{"role": role, "content": content} for role, content in history],
        "model": "scripted",
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_long_history_costs_little_more_than_a_short_one() -> None:
    """Whatever a request costs, all streams of the process wait for it."""
    costs = dict[int, list[float]]()
    whole = STREAM + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS
    async with playing(says(whole, keep_open=True)) as url, connect(url) as model:
        for _ in range(5):
            for count in (1, 300):
                before = time.process_time()
                await model.answer(Question("scripted", [("user", "hello")] * count, None), lambda _: None)
                costs.setdefault(count, []).append(time.process_time() - before)
    assert min(costs[300]) < 4 * min(costs[1])


async def test_a_stream_cut_at_every_byte() -> None:
    """Lines, characters and line ends may be cut by packets wherever they will."""
    pieces = [EVENTS[at : at + 1] for at in range(len(EVENTS))]
    async with playing(says(STREAM + b"\r\n", *pieces)) as url:
        check(await ask(url))


async def test_answers_share_a_connection() -> None:
    """Though their bodies end a moment after `[DONE]`, as most providers' do."""
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await read_request(reader)
                head = STREAM + b"Transfer-Encoding: chunked\r\n\r\n"
                writer.write(head + b"%x\r\n%b\r\n" % (len(EVENTS), EVENTS))
                await asyncio.sleep(0.02)  # what is tested: the end comes later
                writer.write(b"0\r\n\r\n")

    async with playing(play) as url, connect(url) as model:

        async def is_kept() -> bool:
            deltas = list[Delta]()
            before = connections
            await model.answer(QUESTION, deltas.append)
            check(deltas)
            return connections == before

        await until_awaited(is_kept, "an answer comes over the connection of the one before")


NO_DONE = EVENTS.removesuffix(b"data: [DONE]\n\n")
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(EVENTS), EVENTS)
FORMS = {
    "no-done": [STREAM + b"\r\n", NO_DONE],
    "http-1.0": [STREAM.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", EVENTS],
    "http-1.0-no-done": [STREAM.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n", NO_DONE],
    "sized-no-done": [STREAM + b"Content-Length: %d\r\n\r\n" % len(NO_DONE), NO_DONE],
    "trailers": [STREAM + b"Transfer-Encoding: chunked\r\n\r\n", CHUNKS, b"X-Took: 1\r\nX-Cost: 2\r\n\r\n"],
    "interim-heads": [b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 100 Go\r\n\r\n" + STREAM + b"\r\n", EVENTS],
}


@pytest.mark.parametrize("pieces", FORMS.values(), ids=FORMS)
async def test_every_form_of_a_stream(pieces: list[bytes]) -> None:
    """However HTTP frames it, and whether or not `[DONE]` ends it."""
    async with playing(says(*pieces)) as url:
        check(await ask(url))


async def test_connections_that_nobody_answers_any_more_cost_one_try() -> None:
    """However many were kept: the next try makes its own. A NAT or a balancer forgets them without closing them."""
    whole = STREAM + b"Content-Length: %d\r\n\r\n" % len(EVENTS) + EVENTS
    together = asyncio.Barrier(5)
    is_old, in_vain = False, 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal in_vain
        await read_request(reader)
        if not is_old:
            await together.wait()
        writer.write(whole)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read_request(reader)
            in_vain += 1
            await asyncio.Event().wait()

    async with playing(play) as url, connect(url) as model:
        await asyncio.gather(*[model.answer(QUESTION, lambda _: None) for _ in range(5)])
        is_old = True
        deltas = list[Delta]()
        await model.answer(QUESTION, deltas.append)
    check(deltas)
    assert in_vain == 1


async def test_a_compressed_stream() -> None:
    """A proxy on the way may compress what it passes on."""
    body = gzip.compress(EVENTS)
    head = STREAM + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with playing(says(head, body)) as url:
        check(await ask(url))


@pytest.mark.parametrize("kind", [b"application/json", b"text/plain", b"text/event-stream"])
async def test_a_provider_that_does_not_stream(kind: bytes) -> None:
    """One that ignores `stream` and sends its whole answer, whatever it calls it, gives one delta with everything."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % kind
    async with playing(says(head, WHOLE[:30], WHOLE[30:])) as url:
        deltas = await ask(url)
    assert len(deltas) == 1
    check(deltas)


@pytest.mark.parametrize("kind", [b"application/json", b"application/x-ndjson", b""])
async def test_a_stream_by_another_name(kind: bytes) -> None:
    """Events are heard as they come, whatever the provider calls them."""
    async with playing(says(b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n\r\n" % kind, EVENTS, keep_open=True)) as url:
        check(await ask(url))


@pytest.mark.parametrize(
    "body",
    [EVENTS[: EVENTS.index(b"\n\ndata: [DONE]")], b"\xef\xbb\xbf" + EVENTS[EVENTS.index(b"data:{") :]],
    ids=["no-last-line-break", "byte-order-mark"],
)
async def test_the_edges_of_a_stream(body: bytes) -> None:
    """Neither a last line that nothing ends nor what stands before the first loses a word."""
    async with playing(says(STREAM + b"\r\n", body)) as url:
        check(await ask(url))


async def test_an_answer_that_does_not_end_is_ended() -> None:
    """At the longest that one may be, as at a model's own bound; the model need not go on, as nobody hears it."""
    left = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(STREAM + b"\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b'data: {"choices":[{"delta":{"content":"again "}}]}\n\n')
                await writer.drain()
        left.set()

    async with playing(play) as url, asyncio.timeout(5):
        deltas = await ask(url, max_chars=1000)
        await left.wait()
    assert "".join(delta.text for delta in deltas) == ("again " * 200)[:1000]
    assert [delta.finish_reason for delta in deltas if delta.finish_reason] == ["length"]


async def test_a_whole_answer_that_is_too_long_is_cut() -> None:
    """One of just the longest length is not."""
    async with playing(says(STREAM + b"\r\n", WHOLE)) as url:
        assert [(delta.text, delta.finish_reason) for delta in await ask(url, max_chars=5)] == [(TEXT[:5], "length")]
        assert [(delta.text, delta.finish_reason) for delta in await ask(url, max_chars=len(TEXT))] == [(TEXT, "stop")]


@pytest.mark.parametrize(
    ("body", "code", "retryable"),
    [
        (EVENTS[:150], "upstream", True),
        (EVENTS[:150] + b'oops"}\n\n', "upstream", True),
        (b'data: {"choices": oops}\n\n', "upstream", False),
        (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', "upstream", False),
        (b'data: {"error": {"message": "overloaded"}}\n\n', "upstream", True),
        (WHOLE[:-9], "upstream", True),
        (b"data: " + b"x" * (1 << 21), "upstream", False),
        (b"{" + b" " * (MAX_WHOLE + (1 << 20)), "upstream", False),
    ],
    ids=[
        "cut",
        "garbage",
        "all-garbage",
        "no UTF-8",
        "error-in-the-stream",
        "cut-whole",
        "endless-line",
        "endless-whole",
    ],
)
async def test_a_stream_that_goes_wrong(body: bytes, code: str, retryable: bool) -> None:
    """Each ends with an error that says whether asking again may help."""
    async with playing(says(STREAM + b"\r\n", body)) as url:
        with pytest.raises(ModelError) as caught:
            await ask(url)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


@pytest.mark.parametrize(
    ("answer", "error", "retryable"),
    [
        (
            b"HTTP/1.1 307 There\r\nLocation: https://there.example/v1\r\n\r\n",
            r"307.*OPENAI_BASE_URL.*there\.ex",
            False,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<h1>Log in</h1>", "text/html.*OPENAI_BASE_URL", False),
        (b"220 mail.example ESMTP\r\n", "does not speak HTTP.*OPENAI_BASE_URL", True),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "401", False),
    ],
    ids=["redirect", "a-page", "no-http", "refusal"],
)
async def test_what_is_no_answer_says_what_to_set(answer: bytes, error: str, retryable: bool) -> None:
    """A server that is another one than was meant is named as that, not as a connection that broke."""
    async with playing(says(answer)) as url:
        with pytest.raises(ModelError, match=error) as caught:
            await ask(url)
    assert caught.value.retryable == retryable


async def test_a_stall_ends_by_timeout() -> None:
    """A provider that falls silent in mid-answer is not waited for for ever."""
    async with playing(says(STREAM + b"\r\n", EVENTS[:150], keep_open=True)) as url:
        with pytest.raises(ModelError, match="stalled") as caught:
            await ask(url)
    assert (caught.value.code, caught.value.retryable) == ("timeout", True)
