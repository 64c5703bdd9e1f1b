"""The race: the same prompt through every backend at once, things to break, and every text whole in the end."""

import re

from playwright.async_api import Locator, Request, expect

from app.streaming.backends import NAMES
from tests.browser.visitor import ANSWER_MS, Tab, Visitor
from tests.support.waiting import until_awaited

A_TIME = re.compile(r"^[\d.]+ (µs|ms|s)$")
RACE_MS = 2 * ANSWER_MS
WATCH = """() => new Promise((done) => {
  let frames = 0, writes = 0;
  const isText = ({ type }) => type === "characterData";
  const mutated = new MutationObserver((all) => (writes += all.filter(isText).length));
  const options = { subtree: true, characterData: true };
  for (const text of document.querySelectorAll(".lane .text")) mutated.observe(text, options);
  const frame = () => ((frames += 1) < 60 ? requestAnimationFrame(frame) : done([frames, writes]));
  requestAnimationFrame(frame);
})"""
"""Sixty frames of the page: their number, and its writes of text."""
PLAIN = """(lanes) => new Promise((done) => {
  const texts = Array.from({ length: lanes }, () => document.createTextNode(""));
  const places = texts.map((text) => document.body.appendChild(document.createElement("p")));
  places.forEach((place, number) => place.append(texts[number]));
  let frames = 0;
  const frame = () => {
    texts.forEach((text) => text.appendData("word "));
    if ((frames += 1) < 60) return requestAnimationFrame(frame);
    places.forEach((place) => place.remove());
    done(frames);
  };
  requestAnimationFrame(frame);
})"""
"""Sixty frames that do nothing but put a word into each of so many paragraphs."""


def lane(tab: Tab, backend: str) -> Locator:
    return tab.page.locator(".lane").filter(has=tab.page.get_by_role("heading", name=backend, exact=True))


def figure(tab: Tab, backend: str, name: str) -> Locator:
    return lane(tab, backend).locator(f'[data-figure="{name}"]')


async def slide(tab: Tab, slider: str, value: int) -> None:
    await tab.page.locator(f"#{slider}").fill(str(value))


async def test_every_backend_survives_what_hurts(visitor: Visitor) -> None:
    """Cut, paused and restarted in mid-race, each lane's text is the committed message, and its figures are there."""
    tab = await visitor.tab("race", operator=True)
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    for name in NAMES:
        await expect(figure(tab, name, "p99")).to_have_text(A_TIME)
    await tab.page.get_by_role("button", name="Cut the connections").click()
    for name in NAMES:
        await expect(figure(tab, name, "resumes")).to_have_text("1")
    for button in ("Pause the worker for 5 s", "Restart Valkey"):
        await tab.page.get_by_role("button", name=button).click()
        await expect(tab.page.get_by_role("button", name=button)).to_be_disabled()
        await expect(tab.page.get_by_role("button", name=button)).to_be_enabled(timeout=ANSWER_MS)
    await expect(tab.page.locator("#race-alert")).to_be_empty()
    await expect(tab.page.locator("#race-said")).to_contain_text("Over. Median latency of a chunk:", timeout=RACE_MS)
    for name in NAMES:
        await expect(lane(tab, name)).to_contain_text("Whole: all ")
        for each in ("ttfb", "now", "p50", "p99"):
            await expect(figure(tab, name, each)).to_have_text(A_TIME)
    await expect(tab.page.locator("#race-clock")).to_contain_text("of the server's")


async def test_what_hurts_is_offered_to_the_operator_alone(visitor: Visitor) -> None:
    """Without the address that `streamgauge up` printed there is no such button, but the way to it."""
    tab = await visitor.tab("race")
    await expect(tab.page.locator("#race-hint")).to_contain_text("by the address that")
    await expect(tab.page.get_by_role("button", name="Restart Valkey")).to_be_hidden()


async def test_two_hundred_chunks_a_second_leave_the_page_fluent(visitor: Visitor) -> None:
    """Text is written once a frame, and a chunk costs less of the page's thread than the plainest frame in it does.

    Both in time of the processor, which says the same of the page however busy the machine is.
    """
    tab = await visitor.tab("race")
    await slide(tab, "pace", 50)
    session = await visitor.context.new_cdp_session(tab.page)
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def worked_s() -> float:
        found = (await session.send("Performance.getMetrics"))["metrics"]
        return float(next(each["value"] for each in found if each["name"] == "TaskDuration"))

    async def shown() -> int:
        return sum([int(await figure(tab, name, "chunks").inner_text()) for name in NAMES])

    idle_s = await worked_s()
    plain_frames = await tab.page.evaluate(PLAIN, len(NAMES))
    plain_s = await worked_s() - idle_s
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await expect(figure(tab, NAMES[-1], "p99")).to_have_text(A_TIME)
    before, before_s = await shown(), await worked_s()
    frames = writes = 0
    while (came := await shown() - before) < 400:
        seen = await tab.page.evaluate(WATCH)
        frames, writes = frames + seen[0], writes + seen[1]
    cost_s = await worked_s() - before_s
    assert 0 < writes <= len(NAMES) * frames, (writes, frames)
    assert cost_s / (frames + came) < plain_s / plain_frames, (cost_s, frames, came, plain_s)
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(lane(tab, NAMES[0])).to_contain_text("stopped", timeout=ANSWER_MS)
    await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=ANSWER_MS)


async def test_background_load_is_real_and_needs_one_connection(visitor: Visitor) -> None:
    """Twelve streams stay open while one after the other is read; Stop ends them all."""
    tab = await visitor.tab("race")
    await slide(tab, "load", 12)
    await expect(tab.page.locator("#load-shown")).to_have_text("12 streams")
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await expect(figure(tab, NAMES[-1], "p99")).to_have_text(A_TIME)
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(tab.page.locator("#load-shown")).to_have_text("0 streams")
    await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=ANSWER_MS)
    assert visitor.most_streams <= len(NAMES) + 1


async def test_load_ends_with_its_page(visitor: Visitor) -> None:
    """A tab that is closed leaves no stream running for nobody."""
    tab, watching = await visitor.tab("race"), await visitor.tab("live")
    begun = list[str]()

    def note(request: Request) -> None:
        if request.url.endswith("/messages"):
            begun.append(request.url.removesuffix("/messages"))

    tab.page.on("request", note)
    await slide(tab, "load", 5)
    await expect(tab.page.locator("#load-shown")).to_have_text("5 streams")
    await tab.page.goto("about:blank")

    async def all_cancelled() -> bool:
        found = [(await watching.page.request.get(each)).json() for each in begun]
        return [(await each)["messages"][-1]["status"] for each in found] == ["cancelled"] * 5

    await until_awaited(all_cancelled, "each was cancelled")
