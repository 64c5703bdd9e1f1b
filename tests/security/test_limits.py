"""What one owner may take: so many open streams, and so many messages a minute, whatever he floods us with."""

import asyncio
import contextlib

import pytest

from app.api.limits import Limits, OverLimitError
from app.settings import Settings
from tests.security.conftest import A_MINUTE, MOST_STREAMS, Guarded
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
LONG = "ttft=0.02&gap=0.05&chunks=400"


async def test_an_owner_has_so_many_open_streams(guarded: Guarded) -> None:
    """One more is 429 with the time to wait; another owner is not held up, and an ended one makes room."""
    posted = await guarded.ada.post(LONG)
    path = f"/stream/{posted.task_id}"
    views = [guarded.ada.follow(posted.task_id) for _ in range(MOST_STREAMS)]
    for view in views:
        await anext(view)
    refused = await guarded.ada.http.get(path)
    assert (refused.status_code, refused.json()["status"]) == (429, 429)
    assert int(refused.headers["retry-after"]) > 0
    theirs = await guarded.eve.post()
    assert (await guarded.eve.whole(theirs.task_id))[-1].record["chunk_type"] == "done"
    await guarded.ada.http.post(f"{path}/cancel")
    for view in views:
        assert [event async for event in view][-1].record["chunk_type"] == "cancelled"

    async def has_room() -> bool:
        return (await guarded.ada.http.get(path)).status_code == 200

    await until_awaited(has_room, "the ended streams are not counted")


async def test_a_flood_of_streams_at_once_is_held_to_the_same_number(guarded: Guarded) -> None:
    """Those that were all let in before the first began are counted when they begin."""
    posted = await guarded.ada.post(LONG)

    async def status() -> int:
        async with guarded.ada.http.stream("GET", f"/stream/{posted.task_id}") as response:
            async for _ in response.aiter_lines():
                pass
            return response.status_code

    asking = [asyncio.create_task(status()) for _ in range(20)]

    async def all_but_the_most_have_ended() -> bool:
        return sum(task.done() for task in asking) == 20 - MOST_STREAMS

    await until_awaited(all_but_the_most_have_ended, "the others are refused")
    await guarded.ada.http.post(f"/stream/{posted.task_id}/cancel")
    statuses = sorted(await asyncio.gather(*asking))
    assert statuses == [200] * MOST_STREAMS + [429] * (20 - MOST_STREAMS)


async def test_an_owner_posts_so_many_messages_a_minute(guarded: Guarded) -> None:
    """The minute's worth may come at once; what is refused leaves nothing."""
    conversation = await guarded.ada.conversation()
    path, body = f"/conversations/{conversation}/messages", {"content": "hi", "model": "scripted?chunks=1"}
    statuses = [(await guarded.ada.http.post(path, json=body)).status_code for _ in range(A_MINUTE)]
    refused = await guarded.ada.http.post(path, json=body)
    assert statuses == [202] * A_MINUTE
    assert (refused.status_code, 1 <= int(refused.headers["retry-after"]) <= 60) == (429, True)
    assert len((await guarded.ada.http.get(f"/conversations/{conversation}")).json()["messages"]) == 2 * A_MINUTE


def test_messages_come_back_evenly() -> None:
    """After `Retry-After` there is room for one, and after a minute for all of them."""
    now = [0.0]
    limits = Limits(Settings(owner_messages_per_minute=2), clock=lambda: now[0])

    def takes(owner: str | None = "ada") -> int | None:
        try:
            limits.take_message(owner)
        except OverLimitError as error:
            return error.retry_after_s
        return None

    assert [takes(), takes(), takes()] == [None, None, 30]
    assert [takes("eve"), takes(None)] == [None, None]
    now[0] = 30
    assert [takes(), takes()] == [None, 30]
    now[0] = 90
    assert [takes(), takes(), takes()] == [None, None, 30]


def test_limits_can_be_off() -> None:
    """By 0."""
    limits = Limits(Settings(owner_messages_per_minute=0, owner_streams=0))
    with contextlib.ExitStack() as open_streams:
        for _ in range(1000):
            limits.take_message("ada")
            open_streams.enter_context(limits.stream("ada"))
