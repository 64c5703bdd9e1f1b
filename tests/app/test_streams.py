"""A message's life over HTTP: posted, streamed, resumed, cancelled, failed. The same on every backend."""

import asyncio
from uuid import uuid4

import pytest

from app.streaming.backends import NAMES
from tests.support.client import Client, text_of

pytestmark = pytest.mark.anyio
on_each = pytest.mark.parametrize("backend", NAMES)


@on_each
async def test_what_is_streamed_is_what_is_committed(client: Client, backend: str) -> None:
    """The joined content equals the committed message, which can be read as soon as `done` is seen."""
    posted = await client.post(backend=backend)
    events = await client.whole(posted.task_id)
    answer = await client.answer(posted)
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert [event.id for event in events] == [str(index) for index in range(len(events))]
    assert events[-1].record["chunk_type"] == "done"
    assert text_of(events) == answer["content"] != ""
    assert (answer["status"], answer["backend"], answer["finish_reason"]) == ("complete", backend, "stop")
    assert answer["usage"] == events[-1].record["usage"]
    assert answer["usage"]["completion_tokens"] == sum(event.record["deltas"] for event in events)


@on_each
async def test_the_timings_of_an_answer_are_in_order(client: Client, backend: str) -> None:
    """Posted, accepted, requested, first and last delta: each instant follows the one before."""
    posted = await client.post(backend=backend)
    await client.whole(posted.task_id)
    timings = (await client.answer(posted))["timings"]
    instants = [timings[f"{name}_ns"] for name in ("posted", "accepted", "requested", "first_delta", "last_delta")]
    assert instants == sorted(instants)


@on_each
async def test_a_conversation_is_sent_to_the_model_with_its_history(client: Client, backend: str) -> None:
    """A second question carries the first answer: the prompt's tokens grow."""
    first = await client.post(backend=backend)
    await client.whole(first.task_id)
    second = await client.post(backend=backend, conversation=first.conversation_id)
    await client.whole(second.task_id)
    usages = [(await client.answer(posted))["usage"]["prompt_tokens"] for posted in (first, second)]
    assert usages[1] > usages[0]


@on_each
async def test_two_viewers_see_the_same(client: Client, backend: str) -> None:
    """Several tabs on one stream."""
    posted = await client.post(backend=backend)
    both = await asyncio.gather(client.whole(posted.task_id), client.whole(posted.task_id))
    assert both[0] == both[1]


@on_each
async def test_a_viewer_who_left_resumes_without_a_repeat(client: Client, backend: str) -> None:
    """Leaving cancels nothing, and Last-Event-ID brings exactly what was missed."""
    posted = await client.post("ttft=0.02&gap=0.02&chunks=30", backend)
    seen = []
    async for event in client.follow(posted.task_id):
        seen.append(event)
        if len(seen) >= 5:
            break
    rest = await client.whole(posted.task_id, **{"Last-Event-ID": str(seen[-1].id)})
    assert [event.record["chunk_index"] for event in [*seen, *rest]] == list(range(len(seen) + len(rest)))
    assert text_of([*seen, *rest]) == (await client.answer(posted))["content"]


@on_each
async def test_an_id_that_makes_no_sense_gets_a_reset_and_everything(client: Client, backend: str) -> None:
    """Beyond the tail, or no number: discard, then all of it. Never a hang, never a 500."""
    posted = await client.post(backend=backend)
    everything = await client.whole(posted.task_id)
    for last_id in ("999999", "-1", "seven", "1e3", "²", "9" * 400):
        response = await client.http.get(f"/stream/{posted.task_id}", params={"last_event_id": last_id})
        assert response.status_code == 200, last_id
        body = response.text
        assert body.count('"chunk_type":"reset"') == 1, last_id
        assert body.index('"reset"') < body.index("id: 0\n"), last_id
        assert body.count("\nid: ") == len(everything), last_id


@on_each
async def test_an_empty_id_is_none(client: Client, backend: str) -> None:
    """A client that has seen no event may say so by header or query; it gets the stream from its beginning."""
    posted = await client.post(backend=backend)
    everything = await client.whole(posted.task_id)
    assert await client.whole(posted.task_id, **{"Last-Event-ID": ""}) == everything
    response = await client.http.get(f"/stream/{posted.task_id}?last_event_id=")
    assert '"reset"' not in response.text
    resumed = await client.http.get(f"/stream/{posted.task_id}?last_event_id=0", headers={"Last-Event-ID": ""})
    assert "\nid: 0\n" not in resumed.text


@on_each
async def test_who_has_seen_the_terminal_is_sent_away_for_good(client: Client, backend: str) -> None:
    """204 stops an EventSource from reconnecting."""
    posted = await client.post(backend=backend)
    last = (await client.whole(posted.task_id))[-1]
    response = await client.http.get(f"/stream/{posted.task_id}", headers={"Last-Event-ID": str(last.id)})
    assert response.status_code == 204
    assert response.content == b""


@on_each
async def test_the_stream_is_what_an_event_source_expects(client: Client, backend: str) -> None:
    """Its headers keep proxies from buffering; its first line sets the time to reconnect; no event has a name."""
    posted = await client.post(backend=backend)
    response = await client.http.get(f"/stream/{posted.task_id}", headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-streamgauge-backend"] == backend
    assert "content-encoding" not in response.headers
    assert response.text.startswith("retry: ")
    assert "\nevent:" not in response.text


@on_each
async def test_a_cancel_in_the_middle_keeps_what_was_said(client: Client, backend: str) -> None:
    """The stream ends with `cancelled`, the message holds the part that was streamed, and asking again is harmless."""
    posted = await client.post("ttft=0.01&gap=0.05&chunks=2000", backend)
    events = []
    async for event in client.follow(posted.task_id):
        events.append(event)
        if len(events) == 3:
            response = await client.http.post(f"/stream/{posted.task_id}/cancel")
            assert response.status_code == 202
            assert response.json() == {"task_id": posted.task_id, "state": "open"}
    answer = await client.answer(posted)
    assert events[-1].record["chunk_type"] == "cancelled"
    assert (answer["status"], answer["content"]) == ("cancelled", text_of(events))
    again = await client.http.post(f"/stream/{posted.task_id}/cancel")
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")


@on_each
async def test_a_cancel_before_the_first_word_ends_the_stream(client: Client, backend: str) -> None:
    """Nobody waits for a model that is not wanted any more."""
    posted = await client.post("ttft=60&chunks=5", backend)
    await client.http.post(f"/stream/{posted.task_id}/cancel")
    async with asyncio.timeout(10):
        events = await client.whole(posted.task_id)
    assert [event.record["chunk_type"] for event in events] == ["cancelled"]


@on_each
async def test_a_cancel_while_the_model_stalls_ends_the_stream(client: Client, backend: str) -> None:
    """The producer hears of it though it has nothing to append, and what was said before is kept."""
    posted = await client.post("ttft=0.01&gap=0.01&chunks=10&fault=stall&at=3", backend)
    events = []
    async for event in client.follow(posted.task_id):
        events.append(event)
        if "".join(text["content"] for text in (event.record for event in events)).count(" ") == 3:
            await client.http.post(f"/stream/{posted.task_id}/cancel")
    answer = await client.answer(posted)
    assert events[-1].record["chunk_type"] == "cancelled"
    assert (answer["status"], answer["content"]) == ("cancelled", text_of(events)) != ("cancelled", "")


FAULTS = {
    "fault=500": "upstream",
    "fault=refuse": "upstream",
    "fault=cut&at=3": "upstream",
    "fault=garbage&at=3": "upstream",
    "fault=stall&at=3": "timeout",
}


@on_each
async def test_a_model_that_fails_ends_the_stream_with_a_code(client: Client, backend: str) -> None:
    """What was said before the fault is kept, and the viewer learns whether to try again."""

    async def fail(fault: str, code: str) -> None:
        posted = await client.post(f"ttft=0.01&gap=0.01&chunks=10&{fault}", backend)
        events = await client.whole(posted.task_id)
        answer = await client.answer(posted)
        last = events[-1].record
        assert (last["chunk_type"], last["code"], last["retryable"]) == ("failed", code, True), fault
        assert (answer["status"], answer["content"]) == ("failed", text_of(events)), fault
        assert (answer["code"], answer["retryable"]) == (code, True), fault
        assert ("at=3" in fault) == bool(answer["content"]), fault

    await asyncio.gather(*(fail(*each) for each in FAULTS.items()))


async def test_a_stream_that_nobody_posted_is_unknown(client: Client) -> None:
    """404 to its viewer and to who cancels it; an id that is none is 422."""
    for response in (
        await client.http.get(f"/stream/{uuid4()}"),
        await client.http.post(f"/stream/{uuid4()}/cancel"),
    ):
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
    assert (await client.http.get("/stream/not-an-id")).status_code == 422


@pytest.mark.parametrize("backend", NAMES)
async def test_a_model_that_breaks_while_a_chunk_is_being_stored_still_ends_the_stream(
    client: Client, backend: str
) -> None:
    """The interrupted append is stored again before the terminal: no viewer waits for the lease to run out."""
    script = "ttft=0.01&gap=0.001&chunks=20&fault=cut&at=3"
    streams = [await client.post(script, backend) for _ in range(10)]
    async with asyncio.timeout(10):
        seen = await asyncio.gather(*(client.whole(posted.task_id) for posted in streams))
    assert {events[-1].record["chunk_type"] for events in seen} == {"failed"}
