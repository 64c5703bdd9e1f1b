"""A person with a browser: opens the page in tabs, asks, and reads what stands there."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import BrowserContext, Locator, Page, Request, expect

ANSWER_MS = 30_000
SCRIPT = "scripted?ttft=0.05&gap=0.03&chunks=70"
SCHEMES: dict[Literal["light", "dark"], dict[str, list[str]]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""With the rules of axe for each: all of them once."""

HIDE = """(isHidden) => {
  const tell = (name, value) => Object.defineProperty(document, name, { configurable: true, value });
  tell("hidden", isHidden);
  tell("visibilityState", isHidden ? "hidden" : "visible");
  const due = (window.framesDue ??= []);
  window.frame ??= window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = isHidden ? (draw) => due.push(draw) : window.frame;
  if (!isHidden) due.splice(0).forEach(window.frame);
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""
"""What a browser does to a tab that another one covers, but never without a screen: it says so, and draws no frame."""


@dataclass
class Visitor:
    """One browser profile, and what its console and its network showed."""

    context: BrowserContext
    url: str
    operator_url: str
    complaints: list[str] = field(default_factory=list)
    streams: list[Request] = field(default_factory=list)
    """Every request for a stream."""
    most_streams: int = 0
    """How many of them were open at once, at most."""
    _open: set[Request] = field(default_factory=set)

    async def tab(self, view: str = "chat", *, operator: bool = False) -> "Tab":
        """Open the page in a new tab."""
        page = await self.context.new_page()
        page.set_default_timeout(ANSWER_MS)
        page.on("console", lambda message: self._hear(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)
        page.on("requestfinished", lambda request: self._open.discard(request))
        page.on("requestfailed", lambda request: self._open.discard(request))
        await page.goto(self.operator_url if operator else f"{self.url}/#{view}")
        tab = Tab(page, self)
        if operator:
            await tab.turn_to(view)
        await expect(page.locator("#" + view.partition("/")[0])).to_be_visible()
        return tab

    def _hear(self, kind: str, text: str) -> None:
        # The browser itself writes down each request that fails, also those that a test makes fail.
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:")):
            self.complaints.append(f"asked another host: {request.url}")
        if "/stream/" in request.url and request.method == "GET":
            self.streams.append(request)
            self._open.add(request)
            self.most_streams = max(self.most_streams, len(self._open))


@dataclass
class Tab:
    """One tab of the page."""

    page: Page
    visitor: Visitor

    async def turn_to(self, view: str) -> None:
        """Follow the link to a view."""
        await self.page.locator(f'nav a[data-view="{view}"]').click()
        await expect(self.page.locator(f"#{view}")).to_be_visible()

    async def ask(self, question: str = "How high is the river?", model: str = SCRIPT, backend: str = "") -> None:
        """Ask a question that the scripted model answers as its name says."""
        await self.choose(model)
        await self.page.locator("#backend").select_option(backend)
        await self.page.locator("#question").fill(question)
        await self.page.locator("#send").click()

    async def choose(self, model: str) -> None:
        """Open the options and name the model of the next question."""
        if not await self.page.locator("#model").is_visible():
            await self.page.locator(".options summary").click()
        await self.page.locator("#model").fill(model)

    async def hide(self, is_hidden: bool = True) -> None:
        """Look at another tab, or come back."""
        await self.page.evaluate(HIDE, is_hidden)

    @property
    def answer(self) -> Locator:
        """The last message."""
        return self.page.locator(".message").last

    @property
    def state(self) -> Locator:
        """What is said beneath it."""
        return self.answer.locator(".state")

    async def text(self) -> str:
        """What stands there as the answer, to the letter."""
        return await self.answer.locator(".text").text_content() or ""

    async def grown_to(self, words: int) -> str:
        """Wait until the answer has so many words, and give it."""
        grown = re.compile(rf"^(\S+\s+){{{words}}}")
        await expect(self.answer.locator(".text")).to_have_text(grown, timeout=ANSWER_MS)
        return await self.text()

    async def is_complete(self, says: str = "Complete") -> None:
        """Wait for the answer's end."""
        await expect(self.state).to_contain_text(says, timeout=ANSWER_MS)

    async def faults(self, **options: list[str]) -> list[str]:
        """What axe finds."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(Axe().axe_script)
        run = "(options) => axe.run({ ...options, resultTypes: ['violations'] })"
        violations = (await self.page.evaluate(run, options))["violations"]
        return [f"{found['help']}: {found['nodes']}" for found in violations]

    async def committed(self) -> dict[str, Any]:
        """The answer as the server has it in its database."""
        conversation = self.page.url.rpartition("/")[2]
        async with httpx2.AsyncClient(base_url=self.visitor.url) as http:
            messages = (await http.get(f"/conversations/{conversation}")).json()["messages"]
        return dict(messages[-1])
