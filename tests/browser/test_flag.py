"""The flag on the page: an operator's sliders, the way back, and who did it."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import Page, expect

from tests.browser.visitor import Visitor


@pytest.fixture
async def panel(visitor: Visitor) -> AsyncIterator[Page]:
    """Live, as the operator sees it; in the end the flag is as it was for everybody else."""
    tab = await visitor.tab("live", operator=True)
    await expect(tab.page.locator("#flag")).to_be_visible()
    yield tab.page
    await tab.page.locator("#flag-default").select_option("pubsub")
    for slider in await tab.page.locator("#shares label:visible input").all():
        await slider.fill("0")
    await tab.page.get_by_role("button", name="Apply").click()
    await expect(tab.page.locator("#flag-said")).to_have_text(re.compile("pubsub 100 %"))


async def chosen(visitor: Visitor) -> str:
    """The backend that a new message of nobody in particular gets."""
    async with httpx2.AsyncClient(base_url=visitor.url) as http:
        conversation = (await http.post("/conversations", json={})).json()["id"]
        answer = await http.post(f"/conversations/{conversation}/messages", json={"content": "hi"})
        return str(answer.headers["X-Streamgauge-Backend"])


async def test_shares_are_set_by_sliders_and_taken_back_by_one_button(visitor: Visitor, panel: Page) -> None:
    """Each change is in force for the next message, says what it is, and stands in the history with its reason."""
    await panel.locator("#flag-default").select_option("polling")
    await panel.locator("#shares input[name=notify]").fill("100")
    await expect(panel.locator("#flag-rest")).to_have_text("0 %")
    await panel.locator("#flag-reason").fill("to see it")
    await panel.get_by_role("button", name="Apply").click()
    await expect(panel.locator("#flag-said")).to_have_text(re.compile("notify 100 %"))
    assert await chosen(visitor) == "notify"
    await expect(panel.locator("#flag-history tbody tr").first).to_contain_text("to see it")
    await panel.get_by_role("button", name="Roll back").click()
    await expect(panel.locator("#flag-said")).to_have_text(re.compile("everything to polling"))
    assert await chosen(visitor) == "polling"


async def test_too_much_can_not_be_applied(panel: Page) -> None:
    """It says by how much; Reset shows what is in force."""
    await panel.locator("#flag-default").select_option("pubsub")
    for name in ("polling", "notify"):
        await panel.locator(f"#shares input[name={name}]").fill("60")
    await expect(panel.locator("#flag-rest")).to_have_text("20 % too much")
    await expect(panel.get_by_role("button", name="Apply")).to_be_disabled()
    await panel.get_by_role("button", name="Reset").click()
    await expect(panel.locator("#flag-rest")).to_have_text("100 %")


async def test_without_the_token_there_is_nothing_to_see(visitor: Visitor) -> None:
    """Nor to press."""
    tab = await visitor.tab("live")
    await expect(tab.page.locator("#tiles .tile").first).to_be_visible()
    await expect(tab.page.locator("#flag")).to_be_hidden()
