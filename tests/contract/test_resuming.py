"""Where a client goes on that comes back with the last id it saw: the contract's table, row by row."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.delivery import NothingLeftError, UnknownStreamError
from app.records import Final
from app.streaming.contract import Chunk, ChunkType
from tests.contract.backends import Streams
from tests.contract.moves import PATIENCE_S, begin, content, ending, opened, reset, write
from tests.support.outlets import Kept

pytestmark = pytest.mark.anyio


async def view(streams: Streams, task_id: UUID, last_id: str | None = None) -> list[dict[str, Any]]:
    """What the client is sent until the response ends: each event's record, with the SSE id it came under."""
    outlet = Kept()
    async with asyncio.timeout(PATIENCE_S):
        await (await streams.delivery.join(task_id, last_id)).serve(outlet)
    frames = outlet.sent
    assert frames[0].startswith(b"retry: ")
    events = []
    for event in b"".join(frames[1:]).decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if not line.startswith(":"))
        if fields:
            events.append(json.loads(fields["data"]) | {"id": fields.get("id")})
    return events


def places(events: list[dict[str, Any]]) -> list[int | str]:
    """Each event's index, and `reset` for one that only tells the client to discard its text."""
    for event in events:
        assert event["id"] in {None, str(event["chunk_index"])}
    return ["reset" if event["id"] is None else event["chunk_index"] for event in events]


async def ended(streams: Streams) -> UUID:
    """Three chunks and a terminal."""
    task_id = await opened(streams)
    await write(streams, task_id, *(content(index, f"{index} ") for index in range(3)), ending(3))
    return task_id


async def restarted(streams: Streams) -> UUID:
    """Two attempts: 0, 1 | reset at 2, 3 | done at 4."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0), content(1))
    await begin(streams, task_id)
    await write(streams, task_id, reset(2, 2), content(3, attempt=2), ending(4, attempt=2))
    return task_id


async def test_no_id_starts_at_the_beginning_or_at_the_last_reset(streams: Streams) -> None:
    """What a reset would have the client discard is not sent to one that has nothing."""
    assert places(await view(streams, await ended(streams))) == [0, 1, 2, 3]
    assert places(await view(streams, await restarted(streams))) == [2, 3, 4]


async def test_an_id_that_is_stored_goes_on_after_it(streams: Streams) -> None:
    """Or at the last reset, if that is later."""
    task_id = await ended(streams)
    for last_id in range(3):
        assert places(await view(streams, task_id, str(last_id))) == list(range(last_id + 1, 4))
    task_id = await restarted(streams)
    assert [places(await view(streams, task_id, last_id)) for last_id in "0123"] == [[2, 3, 4]] * 2 + [[3, 4], [4]]


@pytest.mark.parametrize("last_id", ["4", "999999", "-1", "", "seven", "1e3", "0x1", "²", "٣", " 1", "9" * 400])
async def test_an_id_that_makes_no_sense_gets_a_reset_and_everything(streams: Streams, last_id: str) -> None:
    """Beyond the tail, or no number: discard, then all of it. Never a hang, never an error."""
    assert places(await view(streams, await ended(streams), last_id)) == ["reset", 0, 1, 2, 3]


async def test_an_id_beyond_the_tail_of_a_running_stream_does_not_hang(streams: Streams) -> None:
    """The client of another stream's id gets this one's chunks, now and as they come."""
    task_id = await opened(streams)
    await write(streams, task_id, content(0))
    viewer = asyncio.create_task(view(streams, task_id, "7"))
    await write(streams, task_id, content(1), ending(2))
    assert places(await viewer) == ["reset", 0, 1, 2]


async def test_who_has_seen_the_terminal_is_sent_away_for_good(streams: Streams) -> None:
    """The answer that stops an EventSource, and only if the stream is over."""
    task_id = await ended(streams)
    with pytest.raises(NothingLeftError):
        await streams.delivery.join(task_id, "3")
    running = await opened(streams)
    await write(streams, running, content(0))
    waiting = asyncio.create_task(view(streams, running, "0"))
    await write(streams, running, ending(1))
    assert places(await waiting) == [1]


@pytest.mark.parametrize("last_id", [None, "1", "3"])
async def test_a_log_that_has_expired_is_rebuilt_from_the_message(streams: Streams, last_id: str | None) -> None:
    """A `reset`, one `content`, one `done`; who comes back with the last of them is sent away for good."""
    task_id = await ended(streams)
    await streams.commit(task_id, "0 1 2 ")
    await streams.expire(task_id)
    try:
        events = await view(streams, task_id, last_id)
    except NothingLeftError:  # a backend that outlives its log knows that 3 was the end
        assert last_id == "3"
        return
    assert [event["chunk_type"] for event in events[-3:]] == ["reset", "content", "done"]
    assert all(event["chunk_type"] == "reset" for event in events[:-2])
    assert events[-2]["content"] == "0 1 2 "
    with pytest.raises(NothingLeftError):
        await streams.delivery.join(task_id, events[-1]["id"])
    for part in events[-3:-1]:
        assert (await view(streams, task_id, part["id"]))[-1]["id"] == events[-1]["id"]


@pytest.mark.parametrize(("code", "retryable"), [("upstream", False), ("timeout", True)])
async def test_a_failure_is_rebuilt_as_it_was_told(streams: Streams, code: str, retryable: bool) -> None:
    """Who comes after the log has expired learns the same as who was there."""
    task_id = await opened(streams)
    failed = Chunk(1, ChunkType.FAILED, "", 1, 0, 5, code=code, retryable=retryable)
    await write(streams, task_id, content(0), failed)
    final = Final("failed", "0 ", None, None, {}, streams.pin, code, retryable)
    assert await streams.records.commit(task_id, 1, final)
    live = (await view(streams, task_id))[-1]
    await streams.expire(task_id)
    late = (await view(streams, task_id))[-1]
    assert all(
        (end["chunk_type"], end["code"], end["retryable"]) == ("failed", code, retryable) for end in (live, late)
    )


async def test_a_stream_that_nobody_posted_is_unknown(streams: Streams) -> None:
    """With an id or without."""
    for last_id in (None, "0"):
        with pytest.raises(UnknownStreamError):
            await streams.delivery.join(uuid4(), last_id)


async def test_a_lost_stream_ends_for_its_viewers(hasty_streams: Streams) -> None:
    """The view itself reaps: it sends what there is, keeps the connection alive, and ends with `producer_lost`."""
    task_id = await opened(hasty_streams)
    await write(hasty_streams, task_id, content(0, "half an ans"))
    many = await asyncio.gather(*(view(hasty_streams, task_id) for _ in range(3)))
    for events in many:
        assert places(events) == [0, 1]
        assert (events[1]["chunk_type"], events[1]["code"]) == ("failed", "producer_lost")
    pin = await hasty_streams.records.pin(task_id)
    assert pin is not None
    assert (pin.message.status, pin.message.content) == ("failed", "half an ans")
