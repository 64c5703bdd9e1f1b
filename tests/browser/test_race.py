"""The race: the same prompt through every backend at once, things to break, and every text whole in the end."""

import os
import re
import signal

from playwright.async_api import Locator, Request, expect

from app.streaming.backends import NAMES, SAFE
from tests.browser.visitor import ANSWER_MS, Tab, Visitor
from tests.support.up import Up
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

UPRIGHTS = """(canvas) => {
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = "var(--bad)";
  const colour = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
  probe.remove();
  const isOn = (x, y) => colour.every((value, part) => data[4 * (y * width + x) + part] === value);
  const hits = (x) => Array.from({ length: height }, (_, y) => isOn(x, y)).filter(Boolean).length;
  return Array.from({ length: width }, (_, x) => hits(x)).filter((found) => found > height / 2).length;
}"""
"""How many columns of a chart are lines from top to bottom in the colour of what was broken."""

TOO_WIDE = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"


def lane(tab: Tab, backend: str) -> Locator:
    return tab.page.locator(".lane").filter(has=tab.page.get_by_role("heading", name=backend, exact=True))


def figure(tab: Tab, backend: str, name: str) -> Locator:
    return lane(tab, backend).locator(f'[data-figure="{name}"]')


async def slide(tab: Tab, name: str, value: int, says: str) -> None:
    """Move a slider, which says its name and its value with the unit to whoever cannot see it."""
    slider = tab.page.get_by_role("slider", name=name, exact=True)
    await slider.fill(str(value))
    await expect(slider).to_have_attribute("aria-valuetext", says)


async def test_every_backend_survives_what_hurts(visitor: Visitor) -> None:
    """Cut, paused and restarted in mid-race, each lane's text is the committed message, and its figures are there.

    What was done is said with its length, and marked in each chart, which a small screen shows whole. A lane that was
    handed over to another backend says so, and is left out of the ranking.
    """
    tab = await visitor.tab("race", operator=True)
    await tab.page.set_viewport_size({"width": 1280, "height": 800})
    struck = tab.page.locator("#race-struck")
    await slide(tab, "Pace", 2, "2 tokens a second")  # twenty seconds: a busy machine breaks all of it in mid-race
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    for name in NAMES:
        await expect(figure(tab, name, "p99")).to_have_text(A_TIME)
    assert await tab.page.locator(".figures dd").evaluate_all(TOO_WIDE) == []
    await tab.page.get_by_role("button", name="Cut the connections").click()
    for name in NAMES:
        await expect(figure(tab, name, "resumes")).to_have_text("1")
    await expect(struck).to_contain_text("The connections were cut")
    for button, done in (
        ("Pause the worker for 5 s", r"^The worker was paused for [5-9]\.\d+ s\.$"),
        ("Restart Valkey", r"^Valkey was restarted in [\d.]+ m?s, and came back empty\.$"),
    ):
        await tab.page.get_by_role("button", name=button).click()
        await expect(tab.page.get_by_role("button", name=button)).to_be_disabled()
        await expect(tab.page.get_by_role("button", name=button)).to_be_enabled(timeout=ANSWER_MS)
        await expect(struck).to_have_text(re.compile(done))
    await expect(tab.page.locator("#race-alert")).to_be_empty()
    said = tab.page.locator("#race-said")
    await expect(said).to_contain_text("Over. Median latency of a chunk: ", timeout=RACE_MS)
    badges = {name: await lane(tab, name).locator(".badge").inner_text() for name in NAMES}
    others = [name for name in NAMES if badges[name] == f"complete, by {SAFE}"]
    assert others, badges
    ranking, _, left = (await said.inner_text()).removeprefix("Over. Median latency of a chunk: ").partition(". ")
    assert left == f"{', '.join(others)}: handed over to {SAFE}, not ranked."
    assert set(re.findall(r"[a-z]{3,}", ranking)) == set(NAMES) - set(others)
    for name in NAMES:
        await expect(lane(tab, name)).to_contain_text("Whole: all ")
        for each in ("ttfb", "p50", "p99"):
            await expect(figure(tab, name, each)).to_have_text(A_TIME)
        await expect(figure(tab, name, "gap")).to_have_text(re.compile(r"^[\d.]+ s$"))
        for each in ("now", "gap-now"):
            await expect(figure(tab, name, each)).to_have_text("–")
        chart = lane(tab, name).locator("canvas")
        for mark in ("cut", "worker paused", "worker goes on", "Valkey stopped", "Valkey back"):
            await expect(chart).to_have_attribute("aria-label", re.compile(rf"; {mark} at [\d.]+ m?s"))
        assert await chart.evaluate(UPRIGHTS) >= 3, "all of what is over is shown; two may be one to the eye"
        box = await chart.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= 1280, box
        assert box["y"] + box["height"] <= 800, box
    await expect(tab.page.locator("#race-clock")).to_contain_text(
        re.compile(r"^Clock: within ±[\d.]+ (µs|ms) of the server's")
    )
    await tab.turn_to("live")
    await expect(tab.page.get_by_role("slider", name="Share", exact=True)).to_have_attribute(
        "aria-valuetext", re.compile(r"^\d+ %$")
    )


async def test_a_server_that_hangs_is_noticed(visitor: Visitor, up: Up) -> None:
    """Each lane says for how long it heard nothing; a Stop that nobody answers says so, and can be given again.

    The focus stays where it was all the while. What was stopped is not ranked.
    """
    tab = await visitor.tab("race")
    start, stop = (tab.page.get_by_role("button", name=name, exact=True) for name in ("Start", "Stop"))
    said, alert = tab.page.locator("#race-said"), tab.page.locator("#race-alert")
    await start.press("Enter")
    for name in NAMES:
        await expect(figure(tab, name, "gap-now")).to_have_text(A_TIME)
    await expect(start).to_be_disabled()
    await expect(start).to_be_focused()
    api = up.pid("api-1")
    os.kill(api, signal.SIGSTOP)
    try:
        await stop.press("Enter")
        await expect(said).to_have_text("Stopping…")
        for name in NAMES:
            await expect(lane(tab, name).locator(".badge")).to_have_text(re.compile(r"^no word for \d+ s$"))
        await expect(alert).to_contain_text("The server said nothing for 5 s")
        await expect(said).to_have_text("Racing.")
    finally:
        os.kill(api, signal.SIGCONT)
    await stop.press("Enter")
    await expect(said).to_have_text(f"Stopped. {', '.join(NAMES)}: stopped, not ranked.")
    await expect(stop).to_be_disabled()
    await expect(stop).to_be_focused()
    await expect(figure(tab, NAMES[0], "now")).to_have_text("–")


async def test_what_the_clock_cannot_tell_apart_is_not_ranked(visitor: Visitor) -> None:
    """Equal is what differs by no more than the clock's bound, or lies below it."""
    tab = await visitor.tab("race")
    found = await tab.page.evaluate(
        """async () => {
          const { ranking } = await import("/web/figures.js");
          const values = [["c", 9], ["a", 1], ["b", 1.4]];
          return [ranking(values, 0.1), ranking(values, 0.5), ranking(values, 2), ranking([], 1)];
        }"""
    )
    assert found == [
        "a 1.00 ms < b 1.40 ms < c 9.00 ms",
        "a 1.00 ms ≈ b 1.40 ms < c 9.00 ms",
        "a 1.00 ms ≈ b 1.40 ms < c 9.00 ms",
        "",
    ]


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
    await tab.page.get_by_role("button", name="Stop", exact=True).click()
    await expect(lane(tab, NAMES[0])).to_contain_text("stopped", timeout=ANSWER_MS)
    await expect(tab.page.get_by_role("button", name="Start", exact=True)).to_be_enabled(timeout=ANSWER_MS)


async def test_background_load_is_real_and_needs_one_connection(visitor: Visitor) -> None:
    """Twelve streams stay open while one after the other is read; Stop ends them all."""
    tab = await visitor.tab("race")
    await slide(tab, "Background load", 12, "12 streams")
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
    await slide(tab, "Background load", 5, "5 streams")
    await expect(tab.page.locator("#load-shown")).to_have_text("5 streams")
    await tab.page.goto("about:blank")

    async def all_cancelled() -> bool:
        found = [(await watching.page.request.get(each)).json() for each in begun]
        return [(await each)["messages"][-1]["status"] for each in found] == ["cancelled"] * 5

    await until_awaited(all_cancelled, "each was cancelled")
