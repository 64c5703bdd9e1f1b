"""More streams than a browser has connections: each is read whole, and other requests find their way."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from playwright.async_api import expect

from app.streaming.backends import NAMES
from tests.browser.racing import A_TIME, figure, lane, shorten
from tests.browser.visitor import ANSWER_MS, Tab, Visitor

CHATS = 3
CONNECTIONS = 6
"""What a browser grants a host."""
LONG = "scripted?ttft=0.05&gap=0.1&chunks=120"
"""Longer than it takes a busy machine to ask in every tab."""


async def at_once(works: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async with anyio.create_task_group() as group:
        for work in works:
            group.start_soon(work)


async def test_seven_streams_of_four_tabs_take_turns_at_five_connections(visitor: Visitor) -> None:
    """Nobody waits for another's end, a request always gets through, and every text is the committed one.

    A race that took part says so, and ranks no backend by how long it waited for a connection.
    """
    chats = [await visitor.tab() for _ in range(CHATS)]
    race = await visitor.tab("race")
    await shorten(race)
    await at_once([lambda tab=tab: tab.ask(model=LONG) for tab in chats])  # type: ignore[misc]
    await race.page.get_by_role("button", name="Start", exact=True).click()
    for name in NAMES:
        await expect(figure(race, name, "p50")).to_have_text(A_TIME)

    async def begins(tab: Tab) -> None:
        await tab.grown_to(5)

    await at_once([lambda tab=tab: begins(tab) for tab in chats])  # type: ignore[misc]
    assert not any([(await tab.committed())["status"] == "complete" for tab in chats]), "all of them run at once"
    quick = await race.page.evaluate("fetch('clock', {signal: AbortSignal.timeout(3000)}).then((it) => it.status)")
    assert quick == 200

    async def ends_whole(tab: Tab) -> None:
        await tab.is_complete()
        assert await tab.text() == (await tab.committed())["content"]

    await at_once([lambda tab=tab: ends_whole(tab) for tab in chats])  # type: ignore[misc]
    for name in NAMES:
        await expect(lane(race, name)).to_contain_text("Whole: all ", timeout=ANSWER_MS)
    await expect(race.page.locator("#race-said")).to_contain_text("took turns at connections, not ranked.")
    # One that gives way and its successor in another tab may seem to overlap: two tabs tell of it in any order.
    assert 0 < visitor.most_streams <= CONNECTIONS
    assert len(visitor.streams) > CHATS + len(NAMES), "turns were taken"


async def test_a_browser_without_web_locks_takes_turns_within_a_tab(loner: Visitor) -> None:
    """Where the page came over plain HTTP from another machine there are none."""
    await loner.context.add_init_script("delete Navigator.prototype.locks")
    tab = await loner.tab("race")
    found = await tab.page.evaluate(
        """async () => {
          const { take, isWanted } = await import("/web/turns.js");
          const never = new AbortController().signal;
          const held = [];
          for (let number = 0; number < 5; number += 1) held.push(await take(never));
          const idle = await isWanted();
          const gone = new AbortController();
          const left = take(gone.signal).catch(() => "left");
          const sixth = take(never).then((release) => (release(), "came"));
          await new Promise((wake) => setTimeout(wake, 50));
          const wanted = await isWanted();
          gone.abort();
          held.pop()();
          return [navigator.locks === undefined, idle, wanted, await left, await sixth, await isWanted()];
        }"""
    )
    assert found == [True, False, True, "left", "came", False]
