"""A real browser on a real system: Debian's Chromium, and what `streamgauge up` starts."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ViewportSize, async_playwright

from tests.browser.visitor import Visitor
from tests.support.up import ALONE, Up, streamgauge_up

MISSING = "Chromium is not here, so the page was not looked at: `make debian` as root, or `apt-get install chromium`"
WINDOW: ViewportSize = {"width": 900, "height": 600}
"""A small one, and of somebody who wants little motion: without a graphics card all of it is the processor's work."""
QUICK = {"STREAMGAUGE_KEEP_ALIVE_S": "1", "STREAMGAUGE_TIDY_EVERY_S": "3600"}


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The system, and the address that it printed for its operator."""
    folder = tmp_path_factory.mktemp("up")
    try:
        with streamgauge_up(folder, environment=ALONE | QUICK) as running:
            yield running
    finally:
        for memory in Path(folder).rglob("servers.path"):
            shutil.rmtree(memory.read_text())


@pytest.fixture(scope="package")
async def browser(anyio_backend: object) -> AsyncIterator[Browser]:
    """Chromium; without one the test is skipped with its reason, and fails where CI=true."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail(MISSING) if os.environ.get("CI", "").lower() in {"1", "true"} else pytest.skip(MISSING)
    async with async_playwright() as playwright:
        # Its sandbox needs rights that root in a container has not.
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--process-per-site"])
        yield browser
        await browser.close()


@pytest.fixture(scope="package")
async def profile(browser: Browser, up: Up) -> AsyncIterator[BrowserContext]:
    """A browser profile that visitors share one after the other: opening a tab of it costs half."""
    context = await browser.new_context(viewport=WINDOW, reduced_motion="reduce")
    kept = await context.new_page()  # so is its process, for the tabs to come
    await kept.goto(f"{up.api_url}/health")
    yield context
    await context.close()


@pytest.fixture
async def visitor(profile: BrowserContext, up: Up) -> AsyncIterator[Visitor]:
    """Somebody whose browser remembers nothing. In the end its console is clean, and no other host was asked."""
    kept, *_ = profile.pages
    await kept.evaluate("localStorage.clear()")
    visitor = Visitor(profile, up.api_url, up.line("Look:"))
    yield visitor
    await profile.set_offline(False)
    for page in profile.pages[1:]:
        await page.close()
    assert visitor.complaints == []


@pytest.fixture
async def loner(browser: Browser, up: Up) -> AsyncIterator[Visitor]:
    """The same with a profile of his own, for tests that change it for good: its clock, its scripts."""
    context = await browser.new_context(viewport=WINDOW, reduced_motion="reduce")
    visitor = Visitor(context, up.api_url, up.line("Look:"))
    yield visitor
    await context.close()
    assert visitor.complaints == []
