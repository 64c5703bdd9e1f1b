"""A real browser on a real system: Debian's Chromium, and what `streamgauge up` starts."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.browser.visitor import Visitor
from tests.support.up import ALONE, Up, streamgauge_up

MISSING = "Chromium is not here, so the page was not looked at: `make debian` as root, or `apt-get install chromium`"
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
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest.fixture
async def visitor(browser: Browser, up: Up) -> AsyncIterator[Visitor]:
    """Somebody with a browser of his own. In the end its console is clean, and no other host was asked for anything."""
    # A small window: without a graphics card each pixel of a frame is the processor's work.
    context = await browser.new_context(viewport={"width": 900, "height": 600})
    visitor = Visitor(context, up.api_url, up.line("Look:"))
    yield visitor
    await context.close()
    assert visitor.complaints == []
