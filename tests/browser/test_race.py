"""The race: the same prompt through every backend at once, things to break, and every text whole in the end."""

import os
import re
import signal

from playwright.async_api import expect

from app.streaming.backends import NAMES, SAFE
from tests.browser.racing import A_TIME, RACE_MS, figure, lane, shorten, slide
from tests.browser.visitor import ANSWER_MS, Visitor
from tests.support.up import Up

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


async def test_every_backend_survives_what_hurts(visitor: Visitor) -> None:
    """Cut, paused and restarted in mid-race, each lane's text is the committed message, and its figures are there.

    What was done is said with its length, and marked in each chart, which a small screen shows whole. A lane that was
    handed over to another backend says so, and is left out of the ranking.
    """
    tab = await visitor.tab("race", operator=True)
    await tab.page.set_viewport_size({"width": 1280, "height": 800})
    struck = tab.page.locator("#race-struck")
    await slide(tab, "Pace", 2, "2 tokens a second")
    await shorten(tab, 32, gap_s=0.5)  # sixteen seconds: a busy machine breaks all of it in mid-race
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
    """Lanes and chat say for how long they heard nothing; a Stop that nobody answers says so, and can be given again.

    The focus stays where it was all the while. What was stopped is not ranked.
    """
    chat, tab = await visitor.tab(), await visitor.tab("race")
    await chat.ask(model="scripted?ttft=0.05&gap=0.1&chunks=400")
    await chat.grown_to(2)
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
        await expect(chat.state).to_contain_text(re.compile(r"Nothing came for \d+ s\.$"))
    finally:
        os.kill(api, signal.SIGCONT)
    await stop.press("Enter")
    await expect(said).to_have_text(f"Stopped. {', '.join(NAMES)}: stopped, not ranked.")
    await expect(stop).to_be_disabled()
    await expect(stop).to_be_focused()
    await expect(figure(tab, NAMES[0], "now")).to_have_text("–")
    await chat.page.keyboard.press("Escape")
    await chat.is_complete("Stopped")


async def test_a_lane_that_lost_its_connection_is_whole_and_not_ranked(visitor: Visitor) -> None:
    """It was slow for that, and not by its backend. On a phone the start brings the lanes into view."""
    tab = await visitor.tab("race")
    await tab.page.set_viewport_size({"width": 390, "height": 700})
    await shorten(tab)
    await expect(lane(tab, NAMES[0]).locator(".lane-text")).not_to_be_in_viewport()
    await tab.page.get_by_role("button", name="Start", exact=True).click()
    await expect(lane(tab, NAMES[0]).locator(".lane-text")).to_be_in_viewport(ratio=1)
    for name in NAMES:
        await expect(lane(tab, name).locator(".badge")).to_have_text("streaming")
    await visitor.context.set_offline(True)
    for name in NAMES:
        await expect(lane(tab, name).locator(".badge")).to_have_text(re.compile("^(connection lost|no word for .+)$"))
    await visitor.context.set_offline(False)
    for name in NAMES:
        await expect(lane(tab, name)).to_contain_text("Whole: all ", timeout=RACE_MS)
    said = tab.page.locator("#race-said")
    await expect(said).to_have_text(f"Over. {', '.join(NAMES)}: lost its connection, not ranked.")
