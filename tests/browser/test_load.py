"""The page under load: a fast race leaves it fluent, and the background load is real."""

from playwright.async_api import Request, expect

from app.streaming.backends import NAMES
from tests.browser.racing import A_TIME, figure, lane, slide
from tests.browser.visitor import ANSWER_MS, Visitor
from tests.support.waiting import until_awaited

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


DRAWN = """() => new Promise((done) => {
  const { prototype } = CanvasRenderingContext2D;
  const { clearRect } = prototype;
  let drawn = 0;
  prototype.clearRect = function (...all) { drawn += 1; clearRect.apply(this, all); };
  setTimeout(() => { prototype.clearRect = clearRect; done(drawn); }, 1000);
})"""
"""How often a chart is drawn in a second."""


async def test_two_hundred_chunks_a_second_leave_the_page_fluent(visitor: Visitor) -> None:
    """Text is written once a frame, and a chunk costs less of the page's thread than the plainest frame in it does.

    Both in time of the processor, which says the same of the page however busy the machine is. For who wants little
    motion the charts move with the figures beneath them. In a hidden tab nothing moves and nothing is asked, and all
    that came is there when somebody comes back.
    """
    tab = await visitor.tab("race")
    await tab.page.emulate_media(reduced_motion="no-preference")
    await slide(tab, "Pace", 50, "50 tokens a second")
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
    moving = await tab.page.evaluate(DRAWN)
    await tab.page.emulate_media(reduced_motion="reduce")
    assert 0 < 2 * await tab.page.evaluate(DRAWN) < moving
    await tab.hide()
    first = figure(tab, NAMES[0], "chunks")
    was, before, asked = await first.inner_text(), await shown(), list[Request]()
    tab.page.on("request", lambda request: asked.append(request))
    assert await tab.page.evaluate(DRAWN) == 0
    assert await tab.page.evaluate("framesDue.length") <= len(NAMES) + 1, "one of each text, one of the charts"
    assert (await shown(), asked) == (before, [])
    await tab.hide(False)
    await expect(first).not_to_have_text(was)
    assert await shown() - before > len(NAMES) * 25, "half of what came in a second or more"
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(lane(tab, NAMES[0])).to_contain_text("stopped", timeout=ANSWER_MS)
    await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=ANSWER_MS)


async def test_background_load_is_real_and_needs_one_connection(visitor: Visitor) -> None:
    """Twelve streams stay open while one after the other is read; Stop ends them all.

    A server that has something away is asked again until it has not, and the page says so meanwhile.
    """
    tab = await visitor.tab("race")
    alert = tab.page.locator("#race-alert")
    await tab.page.route("**/messages", lambda route: route.fulfill(status=503, json={"detail": "check it"}))
    await slide(tab, "Background load", 1, "1 stream")
    await expect(alert).to_contain_text("A part of this system is away, so nothing was done.")
    await expect(alert).to_contain_text("The load goes on by itself; the next try is at ")
    await tab.page.unroute("**/messages")
    await slide(tab, "Background load", 12, "12 streams")
    await expect(tab.page.locator("#load-shown")).to_have_text("12 streams")
    await expect(alert).to_be_empty()
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await expect(figure(tab, NAMES[-1], "p99")).to_have_text(A_TIME)
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(tab.page.locator("#load-shown")).to_have_text("0 streams")
    await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=ANSWER_MS)
    assert visitor.most_streams <= len(NAMES) + 1


async def test_load_ends_with_its_page(visitor: Visitor) -> None:
    """A tab that is closed leaves no stream running for nobody."""
    tab = await visitor.tab("race")
    begun = list[str]()

    def note(request: Request) -> None:
        if request.url.endswith("/messages"):
            begun.append(request.url.removesuffix("/messages"))

    tab.page.on("request", note)
    await slide(tab, "Background load", 5, "5 streams")
    await expect(tab.page.locator("#load-shown")).to_have_text("5 streams")
    await tab.page.goto("about:blank")

    async def all_cancelled() -> bool:
        found = [(await visitor.context.request.get(each)).json() for each in begun]
        return [(await each)["messages"][-1]["status"] for each in found] == ["cancelled"] * 5

    await until_awaited(all_cancelled, "each was cancelled")
