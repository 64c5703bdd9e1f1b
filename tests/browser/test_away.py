"""The page while its server, its network or its reader is away."""

import re
from collections import Counter

import anyio
from playwright.async_api import Route, expect

from tests.browser.visitor import Visitor


async def test_figures_of_a_server_that_fell_silent_are_marked_as_old(loner: Visitor) -> None:
    """The page says how long it has heard nothing, and when it hears again the figures are of now.

    What is told by the minute is not known in the first moments, and the page says so. While nobody looks at the tab
    nothing is asked, which is no silence of the server's, and figures begin anew when somebody comes back.
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
    asked = list[str]()
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.hide()
    for _ in range(7):
        await tab.page.clock.fast_forward(10_000)
    assert asked == []
    await expect(silence).to_contain_text(re.compile("^The figures are of "))
    again = anyio.Event()
    await tab.hide(False)
    await expect(silence).to_contain_text(re.compile("^The figures are of "))
    assert [url.rpartition("/")[2] for url in asked] == ["system.json", "metrics"]
    again.set()
    await expect(silence).to_be_empty()
    await expect(chunks).to_have_text("–")
    await expect(messages).to_have_text("measuring")
    await tab.page.clock.fast_forward(2000)
    await expect(chunks).to_have_text(re.compile(r"^\d"))


async def test_a_server_that_is_away_is_asked_ever_less_often(loner: Visitor) -> None:
    """The page says when it tries again, also one that could not open yet, and no two pages try alike.

    It tries at once when the network is back, or when another request got through.
    """
    await loner.context.clock.install()
    tab = await loner.tab("live", operator=True)
    silence = tab.page.locator("#live-silence")
    await expect(tab.page.locator("#split")).to_contain_text("%")
    missed = Counter[str]()
    tab.page.on("requestfailed", lambda request: missed.update([request.url.rpartition("/")[2]]))
    lost = re.compile(r"^No word for \d\d s\. .+ The next try is in \d\d? s\.$")

    async def go_on(seconds: int) -> None:
        for _ in range(0, seconds, 2):
            await tab.page.clock.fast_forward(2000)

    await loner.context.set_offline(True)
    await go_on(60)
    assert 3 <= missed["metrics"] <= 9, missed
    assert 3 <= missed["flag"] <= 9, missed
    assert missed.total() == missed["metrics"] + missed["flag"] + missed["system.json"]
    await expect(silence).to_have_text(lost)
    await expect(tab.page.locator("#flag-again")).to_have_text(re.compile(r"^The next try is at \d.+\.$"))
    await loner.context.set_offline(False)
    await expect(silence).to_be_empty()
    for each in ("#live-alert", "#flag-alert", "#flag-again"):
        await expect(tab.page.locator(each)).to_be_empty()
    await tab.page.route("**/metrics", lambda route: route.abort())
    await go_on(30)
    await expect(silence).to_have_text(lost)
    await tab.page.unroute("**/metrics")
    await tab.page.evaluate("import('/web/api.js').then(({ ask }) => ask('web/system.json'))")
    await expect(silence).to_be_empty()
    await tab.page.route("**/system.json", lambda route: route.abort(), times=1)
    await tab.page.reload()
    told = re.compile(r"^The server can't be reached\. .+ The next try is at \d.+\.$")
    await expect(tab.page.locator("#net")).to_have_text(told)
    waits = await tab.page.evaluate(
        """async () => {
          const { patience } = await import("/web/polling.js");
          return [1, 2, 3, 9].map((failures) => [0, 1].map((chance) => patience(failures, 2000, 30000, chance)));
        }"""
    )
    assert waits == [[1000, 2000], [2000, 4000], [4000, 8000], [15000, 30000]]
    await expect(tab.page.locator("#live")).to_be_visible()
