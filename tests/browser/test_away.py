"""The page while its server, its network or its reader is away."""

import re
from collections import Counter

import anyio
from playwright.async_api import Route, expect

from tests.browser.visitor import Visitor


async def test_figures_of_a_server_that_fell_silent_are_marked_as_old(loner: Visitor) -> None:
    """The page says how long it has heard nothing, and when it hears again the figures are of now.

    What is told by the minute is not known in the first moments, and the page says so.
    """
    await loner.context.clock.install()
    tab = await loner.tab("live")
    silence, view = tab.page.locator("#live-silence"), tab.page.locator("#live")
    chunks, messages = (
        tab.page.locator(".tile", has_text=f"{name} a ").locator("dd") for name in ("Chunks", "Messages")
    )
    await expect(messages).to_have_text("measuring")
    await tab.page.clock.fast_forward(2000)
    await expect(chunks).to_have_text(re.compile(r"^\d"))
    await expect(messages).to_have_text("measuring")
    await tab.page.clock.fast_forward(6500)
    await expect(messages).to_have_text(re.compile(r"^\d"))
    held, again = anyio.Event(), anyio.Event()

    async def hold(route: Route) -> None:
        held.set()
        await again.wait()
        await route.continue_()

    await tab.page.route("**/metrics", hold)
    await tab.page.clock.fast_forward(2000)
    await held.wait()
    await tab.page.clock.fast_forward(6000)
    await expect(silence).to_contain_text(re.compile(r"^No word for \d+ s\. The figures are of "))
    await expect(view).to_have_class(re.compile("is-stale"))
    await expect(tab.page).to_have_title("No word · Live · streamgauge")
    again.set()
    await expect(silence).to_be_empty()
    await expect(view).not_to_have_class(re.compile("is-stale"))
    await tab.page.unroute("**/metrics")


async def test_a_server_that_is_away_is_asked_ever_less_often(loner: Visitor) -> None:
    """The page says when it tries again, tries at once when the network is back, and no two pages try alike."""
    await loner.context.clock.install()
    tab = await loner.tab("live", operator=True)
    silence = tab.page.locator("#live-silence")
    await expect(tab.page.locator("#split")).to_contain_text("%")
    missed = Counter[str]()
    tab.page.on("requestfailed", lambda request: missed.update([request.url.rpartition("/")[2]]))
    await loner.context.set_offline(True)
    for _ in range(60):
        await tab.page.clock.fast_forward(1000)
    assert 3 <= missed["metrics"] <= 9, missed
    assert 3 <= missed["flag"] <= 9, missed
    assert missed.total() == missed["metrics"] + missed["flag"] + missed["system.json"]
    await expect(silence).to_contain_text(re.compile(r"^No word for \d\d s\. .+ The next try is in \d+ s\.$"))
    await expect(tab.page.locator("#flag-again")).to_have_text(re.compile(r"^The next try is at \d.+\.$"))
    await loner.context.set_offline(False)
    await expect(silence).to_be_empty()
    for told in ("#live-alert", "#flag-alert", "#flag-again"):
        await expect(tab.page.locator(told)).to_be_empty()
    waits = await tab.page.evaluate(
        """async () => {
          const { patience } = await import("/web/polling.js");
          return [1, 2, 3, 9].map((failures) => [0, 1].map((chance) => patience(failures, 2000, 30000, chance)));
        }"""
    )
    assert waits == [[1000, 2000], [2000, 4000], [4000, 8000], [15000, 30000]]
