"""The page is there for everybody: by keyboard, by screen reader, on a phone, in the dark."""

import anyio
from playwright.async_api import Route, expect

from tests.browser.visitor import SCHEMES, Visitor

VIEWS = ("chat", "race", "live")
COLOURS = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const ground = getComputedStyle(document.querySelector(".top")).backgroundColor;
  const isUnderlined = (link) => getComputedStyle(link).borderBottomColor !== ground;
  return [
    all("#legend li").map((entry) => getComputedStyle(entry, "::before").backgroundColor),
    all("nav a").filter(isUnderlined).map((link) => link.textContent),
    all("button[id]").map((button) => [button.id, getComputedStyle(button).color]),
  ];
}"""
"""The colours of the charts' key, the views that are underlined, and the colours of some buttons."""
HIGH = 700
"""A phone's height."""


async def test_axe_finds_nothing(visitor: Visitor) -> None:
    """In each view, with something in it; in the dark it is the colours that differ.

    In the system's own colours, too, the charts' key, the view that is shown and what can't be pressed can be told.
    """
    tab = await visitor.tab(operator=True)
    page = tab.page
    await tab.ask(model="scripted?ttft=0.05&gap=0.01&fault=cut&at=12")
    await tab.is_complete("Failed")
    for view in VIEWS:
        await tab.turn_to(view)
        for scheme, rules in SCHEMES.items():
            await page.emulate_media(color_scheme=scheme)
            assert await tab.faults(**rules) == []
    await page.emulate_media(forced_colors="active")
    key, underlined, found = await page.evaluate(COLOURS)
    assert len(set(key)) == len(key) > 1
    assert underlined == ["Live"]
    colour = dict(found)
    assert colour["race-stop"] == colour["cut"] == colour["stop"]
    assert colour["race-stop"] != colour["race-go"] == colour["new-conversation"]


async def test_nothing_is_wider_than_a_phone(visitor: Visitor) -> None:
    """One scrolls down, in one place, and never sideways; but the table of figures, which says so."""
    tab = await visitor.tab()
    await tab.page.set_viewport_size({"width": 320, "height": HIGH})
    await tab.ask("Wide? " + "w" * 300, "scripted?ttft=0.05&gap=0.01&chunks=30")
    await tab.is_complete()
    for view in VIEWS:
        await tab.turn_to(view)
        for width in (320, 390):
            await tab.page.set_viewport_size({"width": width, "height": HIGH})
            widths = await tab.page.evaluate(
                "[document.documentElement, document.getElementById('main')].map((it) => it.scrollWidth)"
            )
            assert max(widths) <= width, (view, widths)
            high = await tab.page.evaluate("document.documentElement.scrollHeight")
            assert high <= HIGH, (view, "the page scrolls, and in it the view")
    await expect(tab.page.get_by_text("The table is wider than the screen")).to_be_visible()


async def test_a_small_window_on_a_slow_network(visitor: Visitor) -> None:
    """Also of a screen enlarged twice: the options make room for the answer, and past ones unfold at a button.

    While the network takes its time, the page says that it sends. A reload keeps the options.
    """
    tab = await visitor.tab()
    await tab.page.set_viewport_size({"width": 640, "height": 360})
    slow = anyio.Event()

    async def hold(route: Route) -> None:
        await slow.wait()
        await route.continue_()

    await tab.page.route("**/messages", hold)
    model = "scripted?ttft=0.05&gap=0.01&chunks=6"
    await tab.ask("Of yesterday", model, "notify")
    await expect(tab.page.get_by_role("status").filter(has_text="Sending…")).to_be_visible()
    await expect(tab.page.get_by_role("button", name="Sending…")).to_be_visible()
    await expect(tab.page.locator(".options-body")).to_be_hidden()
    slow.set()
    await tab.is_complete()
    await expect(tab.page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    box = await tab.page.get_by_role("region", name="Messages").bounding_box()
    assert box is not None
    assert box["height"] >= 96
    await tab.page.reload()
    await expect(tab.page.locator("#model")).to_have_value(model)
    await expect(tab.page.locator("#backend")).to_have_value("notify")
    await tab.page.get_by_role("button", name="New conversation").click()
    button = tab.page.get_by_role("button", name="Past ones")
    await expect(button).to_have_attribute("aria-expanded", "false")
    await button.click()
    await expect(button).to_have_attribute("aria-expanded", "true")
    await tab.page.get_by_role("link", name="Of yesterday").click()
    await tab.is_complete()


async def test_a_question_is_asked_by_keyboard_alone(visitor: Visitor) -> None:
    """From the top of the page by Tab to the question; Enter sends, Shift and Enter break the line.

    The Enter that ends a composition is none of them; and whoever skipped to the content may reload it.
    """
    tab = await visitor.tab()
    question = tab.page.locator("#question")
    await tab.page.evaluate("location.hash = '#main'")  # as the link does that skips to the content
    await tab.page.reload()
    for _ in range(12):
        await tab.page.keyboard.press("Tab")
        if await question.evaluate("(element) => element === document.activeElement"):
            break
    await tab.page.keyboard.type("One line")
    await question.evaluate("(box) => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', keyCode: 229}))")
    await tab.page.keyboard.press("Shift+Enter")
    await tab.page.keyboard.type("and another")
    await tab.page.keyboard.press("Enter")
    await expect(tab.page.locator(".message").first).to_contain_text("One line\nand another")
    await expect(tab.page.get_by_role("status").filter(has_text="Complete")).to_have_count(1, timeout=30_000)
