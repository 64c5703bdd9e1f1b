"""Where the system has API keys, the page asks for one, once a tab."""

import re

import pytest
from playwright.async_api import Browser, expect

from app.api import page
from app.api.access import digest_of
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.browser.visitor import SCHEMES, Tab, Visitor
from tests.support.serving import serving

KEY = "the-key-of-ada"
TOKEN = "the+token/of=the-operator"
REFUSED = "The server refused this tab's operator token, and the tab has forgotten it."


async def test_a_key_is_asked_for_once_and_kept_for_the_tab(
    browser: Browser, system: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong one is asked for anew, and why; the right one brings the answer, after a reload too. No URL has it.

    A server that was renewed meanwhile is noticed: once the answer has ended, the page offers to reload.
    """
    settings = settings_of(system).model_copy(update={"api_keys": {digest_of(KEY): "ada"}})
    async with serving(settings) as client:
        url = str(client.http.base_url).rstrip("/")
        context = await browser.new_context()
        visitor = Visitor(context, url, url)
        tab = await visitor.tab()
        asked = list[str]()
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.ask()
        for given, told in (("a wrong one", "It is kept for this tab"), (KEY, "The server knows no such key.")):
            await expect(tab.page.locator("#key-wanted")).to_contain_text(told)
            await tab.page.locator("#key").fill(given)
            await tab.page.locator("#key").press("Enter")
        newer = tab.page.locator("#newer")
        await tab.grown_to(3)
        monkeypatch.setattr(page, "VERSION", "of tomorrow")
        async with tab.page.expect_response("**/system.json"):
            await tab.page.evaluate("dispatchEvent(new Event('online'))")
        await expect(newer).to_be_empty()
        await expect(tab.state).to_contain_text("Streaming")
        await tab.is_complete()
        await expect(newer).to_contain_text("The server has a newer version of this page.")
        await tab.page.set_viewport_size({"width": 320, "height": 700})
        assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 320
        for scheme, rules in SCHEMES.items():
            await tab.page.emulate_media(color_scheme=scheme)
            assert await tab.faults(**rules) == []
        async with tab.page.expect_event("load"):
            await newer.get_by_role("button", name="Reload").click()
        await tab.is_complete()
        await expect(newer).to_be_empty()
        await expect(tab.page.locator("#key-wanted")).to_be_hidden()
        assert not any(KEY in each for each in asked)
        await context.close()
        assert visitor.complaints == []


async def asked_within_5_s(tab: Tab) -> list[str]:
    """What the page asks for in the next five seconds by its own clock."""
    asked = list[str]()
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.page.clock.run_for(5000)
    return asked


async def test_an_operator_has_metrics_and_flag_by_the_token_and_is_asked_for_no_key(
    browser: Browser, system: Stack
) -> None:
    """One whose token is wrong is told so, since a key would not help; the tab forgets it, and asks no more."""
    guards = {"api_keys": {digest_of(KEY): "ada"}, "operator_token": TOKEN, "metrics_token": "another"}
    async with serving(settings_of(system).model_copy(update=guards)) as client:
        url = str(client.http.base_url).rstrip("/")
        for token in (TOKEN, "a-wrong-one"):
            is_right = token == TOKEN
            context = await browser.new_context()
            await context.clock.install()
            visitor = Visitor(context, url, f"{url}/#token={token}")
            tab = await visitor.tab("live", operator=True)
            viewers = tab.page.locator(".tile", has_text="Viewers").locator("dd")
            await expect(viewers).to_have_text("0" if is_right else "–")
            await expect(tab.page.locator("#generation")).to_have_text(re.compile("^Generation" if is_right else "^$"))
            await expect(tab.page.locator("#flag-alert")).to_contain_text("" if is_right else REFUSED)
            await expect(tab.page.locator("#live-alert")).to_contain_text("" if is_right else "are their operator's")
            await expect(tab.page.locator("#flag-set")).to_be_visible(visible=is_right)
            asked = await asked_within_5_s(tab)
            assert bool(asked) is is_right
            kept = await tab.page.evaluate("Object.values(sessionStorage)")
            assert (token in kept) is is_right
            await expect(tab.page.locator("#key-wanted")).to_be_hidden()
            await context.close()
