"""The race as a visitor sees it: its lanes, their figures, its sliders."""

import json
import re

from playwright.async_api import Locator, Route, expect

from tests.browser.visitor import ANSWER_MS, Tab

A_TIME = re.compile(r"^[\d.]+ (µs|ms|s)$")
RACE_MS = 2 * ANSWER_MS


def lane(tab: Tab, backend: str) -> Locator:
    return tab.page.locator(".lane").filter(has=tab.page.get_by_role("heading", name=backend, exact=True))


def figure(tab: Tab, backend: str, name: str) -> Locator:
    return lane(tab, backend).locator(f'[data-figure="{name}"]')


async def slide(tab: Tab, name: str, value: int, says: str) -> None:
    """Move a slider, which says its name and its value with the unit to whoever cannot see it."""
    slider = tab.page.get_by_role("slider", name=name, exact=True)
    await slider.fill(str(value))
    await expect(slider).to_have_attribute("aria-valuetext", says)


async def shorten(tab: Tab, chunks: int = 60, gap_s: float = 0.05) -> None:
    """Let the answers of the races to come be as short as a test needs; the page's own last twelve seconds or more."""

    async def fewer(route: Route) -> None:
        asked: dict[str, str] = json.loads(route.request.post_data or "")
        asked["model"] = re.sub(r"gap=[^&]+&chunks=\d+", f"gap={gap_s}&chunks={chunks}", asked["model"])
        await route.continue_(post_data=asked)

    await tab.page.route("**/messages", fewer)
