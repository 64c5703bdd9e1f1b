"""Live: what the system's own metrics say, as the page reads them."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Route, expect

from app.database import Database
from app.rollout_record import JudgementWord, ObjectiveWord, RolloutRecord, RolloutWord
from tests.browser.visitor import Tab, Visitor
from tests.support.up import Up

EXPOSITION = """
# TYPE streamgauge_delivery_seconds histogram
streamgauge_delivery_seconds_bucket{backend="polling",le="0.1"} %d
streamgauge_delivery_seconds_bucket{backend="polling",le="0.2"} %d
streamgauge_delivery_seconds_bucket{backend="polling",le="+Inf"} %d
streamgauge_delivery_seconds_bucket{backend="pubsub",le="0.1"} 900
streamgauge_delivery_seconds_bucket{backend="pubsub",le="+Inf"} 900
streamgauge_events_sent_total{backend="polling"} %d
streamgauge_store_away NaN
"""


async def test_figures_of_a_backend_appear_while_it_streams(visitor: Visitor) -> None:
    """Viewers, throughput and percentiles come up; a backend without traffic has none."""
    chat, live = await visitor.tab(), await visitor.tab("live")
    await chat.ask(model="scripted?ttft=0.1&gap=0.05&chunks=130", backend="polling")
    row = live.page.locator("#backends tbody tr").filter(has_text="polling")
    await expect(row.locator("td").nth(4)).to_have_text("1")
    await expect(row.locator("td").nth(3)).to_have_text(re.compile(r"^[1-9]\d?(\.\d)?$"))
    await expect(live.page.get_by_role("list", name="Colours of the charts")).to_contain_text("polling")
    for place in (0, 1, 2):
        await expect(row.locator("td").nth(place)).to_have_text(re.compile(r"^[\d.]+ ms$"))
    await expect(live.page.locator(".tile", has_text="Viewers").locator("dd")).not_to_have_text("–")
    await chat.page.get_by_role("button", name="Stop").click()
    await chat.is_complete("Stopped")


async def test_percentiles_are_of_what_came_between_two_readings(visitor: Visitor) -> None:
    """From bucket to bucket in a straight line, as Prometheus does; nothing is made up where nothing came.

    Equal in the race's ranking is what differs by no more than the clock's bound, or lies below it.
    """
    tab = await visitor.tab("live")
    found = await tab.page.evaluate(
        """async ([first, second]) => {
          const { parse, quantile, rise, total } = await import("/web/metrics.js");
          const [before, after] = [parse(first), parse(second)];
          const of = (backend, share) => quantile(before, after, "streamgauge_delivery_seconds", backend, share);
          const sent = "streamgauge_events_sent_total";
          return [of("polling", 0.25), of("polling", 0.75), of("polling", 0.99), String(of("pubsub", 0.5)),
            rise(before, after, sent, "polling"), String(rise(after, before, sent, "polling")), total(after, sent)];
        }""",
        [EXPOSITION % (100, 100, 100, 7), EXPOSITION % (110, 120, 121, 27)],
    )
    # 10 of 21 lie below 0.1, 10 more below 0.2, one above all bounds.
    assert found[0] == 0.1 * (0.25 * 21) / 10
    assert abs(found[1] - (0.1 + 0.1 * (0.75 * 21 - 10) / 10)) < 1e-9
    assert found[2:] == [0.2, "NaN", 20, "NaN", 27]
    ranked = await tab.page.evaluate(
        """async () => {
          const { ranking } = await import("/web/figures.js");
          const values = [["c", 9], ["a", 1], ["b", 1.4]];
          return [ranking(values, 0.1), ranking(values, 0.5), ranking(values, 2), ranking([], 1)];
        }"""
    )
    assert ranked == [
        "a 1.00 ms < b 1.40 ms < c 9.00 ms",
        "a 1.00 ms ≈ b 1.40 ms < c 9.00 ms",
        "a 1.00 ms ≈ b 1.40 ms < c 9.00 ms",
        "",
    ]


async def another_comes_first(tab: Tab) -> None:
    """Bea changes the flag, and the page does not hear of it."""

    async def hide(route: Route) -> None:
        await (route.abort() if route.request.method == "GET" else route.continue_())

    await tab.page.route("**/ops/flag", hide)
    await bea_sets(tab, {"shares": {"notify": 45}})


async def bea_sets(tab: Tab, edit: dict[str, Any]) -> None:
    token = tab.visitor.operator_url.partition("#token=")[2]
    change = {"by": "Bea", **edit}
    changed = await tab.page.request.put(
        f"{tab.visitor.url}/ops/flag", data=change, headers={"Authorization": f"Bearer {token}"}
    )
    assert changed.ok, await changed.text()


async def test_the_operator_splits_rolls_back_and_sees_who_did(visitor: Visitor) -> None:
    """A share is set by its slider, everything goes back by one click, what drains is shown, and history names all.

    What somebody else has replaced meanwhile is not changed: the page says who that was, and what is in force now. What
    was said of one's own change goes with its generation.
    A race says where the flag sent a lane else than by its own backend.
    """
    chat, live = await visitor.tab(), await visitor.tab("live", operator=True)
    page = live.page
    await expect(page.locator("#split")).to_contain_text("100 %")
    await page.locator("#candidate").select_option("notify")
    await page.locator("#share").fill("30")
    await page.locator("#by").fill("Ada")
    await page.locator("#reason").fill("to see it rise")
    await page.get_by_role("button", name="Set the share").click()
    await expect(page.locator("#split")).to_contain_text("notify 30 %")
    await expect(page.locator("#flag-history li").first).to_contain_text("Ada: to see it rise")
    await expect(page.locator("#flag-history li").first).to_contain_text(re.compile(r"^\d+ \w+ 70 %, notify 30 %"))
    await another_comes_first(live)
    await page.get_by_role("button", name="All to notify").click()
    told = r"^Nothing was changed: Bea was first, with generation \d+, \w+ 55 %, notify 45 %\. Look at it"
    await expect(page.locator("#change-alert")).to_contain_text(re.compile(told))
    await page.unroute("**/ops/flag")
    await expect(page.locator("#split")).to_contain_text("notify 45 %")
    await page.get_by_role("button", name="All to notify").click()
    await expect(page.locator("#split")).to_have_text("notify 100 %")
    await expect(page.locator("#change-alert")).to_be_empty()
    await chat.ask(model="scripted?ttft=0.05&gap=0.05&chunks=400")
    await chat.grown_to(3)
    await page.get_by_role("button", name="Roll back to polling").click()
    await expect(page.locator("#split")).to_have_text("polling 100 %")
    await expect(page.locator("#drain")).to_contain_text("on notify")
    await chat.page.get_by_role("button", name="Stop").click()
    await chat.is_complete("Stopped")
    await expect(page.locator("#drain")).to_have_text("Drained: nothing streams outside polling.")
    await expect(page.locator("#generation")).to_contain_text("rolled back")
    await live.turn_to("race")
    await page.get_by_role("button", name="Start", exact=True).click()
    pubsub = page.locator(".lane").filter(has=page.get_by_role("heading", name="pubsub"))
    await expect(pubsub).to_contain_text("The flag sends this by polling.")
    await page.get_by_role("button", name="Stop", exact=True).click()
    await expect(pubsub).to_contain_text("stopped")
    await expect(page.locator("#race-said")).to_contain_text("pubsub, notify, streams: sent by polling, not ranked.")
    await live.turn_to("live")
    await expect(page.locator("#flag-said")).to_contain_text("polling alone")
    await bea_sets(live, {"default": "pubsub"})
    await expect(page.locator("#split")).to_have_text("pubsub 100 %")
    await expect(page.locator("#flag-said")).to_be_empty()


async def test_a_stranger_sees_no_flag_and_nothing_that_hurts(visitor: Visitor) -> None:
    """Without the token there is nothing to set or to break, but the way to it; with it the tab is the operator's."""
    live = await visitor.tab("race")
    await expect(live.page.locator("#race-hint")).to_contain_text("by the address that")
    await expect(live.page.get_by_role("button", name="Restart Valkey")).to_be_hidden()
    await live.turn_to("live")
    await expect(live.page.locator("#flag-stranger")).to_be_visible()
    await expect(live.page.locator("#flag-operator")).to_be_hidden()
    await live.page.goto(visitor.operator_url)
    await live.turn_to("live")
    await expect(live.page.locator("#flag-operator")).to_be_visible()
    assert "token" not in live.page.url


AT = datetime(2026, 11, 25, 19, 36, 24, tzinfo=UTC)
WATCHING = RolloutWord(
    candidate="pubsub",
    baseline="polling",
    phase="watching",
    generation=1000,
    steps=[1, 10, 50, 100],
    step=2,
    since=AT,
    due_s=90,
    why="",
    judgement=JudgementWord(
        at=AT,
        percent=1,
        verdict="pass",
        beside="polling now",
        decision="on to 10 %",
        objectives=[
            ObjectiveWord(
                name="delivery_latency.p99", verdict="pass", candidate="17.7 ms", baseline="141 ms", reason="below"
            )
        ],
    ),
)
FAILED = JudgementWord(
    at=AT,
    percent=10,
    verdict="fail",
    beside="polling now",
    decision="back to polling",
    objectives=[
        ObjectiveWord(
            name="delivery_latency.p99", verdict="fail", candidate="408 ms", baseline="6.38 ms", reason="slow"
        ),
        ObjectiveWord(name="failed", verdict="pass", candidate="0 %", baseline="0 %", reason="well"),
    ],
)
BACK = {"phase": "rolled back", "due_s": None, "why": "Rolled back to polling: slow", "judgement": FAILED}


@pytest.fixture
async def rollout(up: Up) -> AsyncIterator[RolloutRecord]:
    """What a controller tells; in the end nobody has."""
    async with Database.connect(up.address("postgres"), 1) as database:
        yield RolloutRecord(database)
        async with database.driver() as connection:
            await connection.execute("DELETE FROM rollout")


async def test_the_operator_sees_how_a_rollout_stands(loner: Visitor, rollout: RolloutRecord) -> None:
    """Its step, what the guard last found and when it judges next; who overtook it; that nobody watches it; its end.

    There is nothing of it before the first, and what there is can be read on a phone and by a screen reader.
    """
    await loner.context.clock.install()
    live = await loner.tab("live", operator=True)
    page = live.page

    async def tell(word: RolloutWord, age_s: float = 0.0) -> None:
        await rollout.tell(word, age_s)
        await page.clock.fast_forward(2000)  # and the page looks

    part, state = page.locator("#rollout"), page.locator("#rollout-state")
    await expect(page.locator("#split")).to_contain_text("%")
    await expect(part).to_be_hidden()
    await tell(WATCHING.model_copy(update={"generation": -1}))
    await expect(state).to_have_text("Step 2 of 4, 10 %: overtaken.")
    await expect(part).to_contain_text(re.compile(r"Somebody changed the flag, to generation \d+, which this rollout"))
    await tell(WATCHING)
    await expect(part.get_by_role("heading")).to_have_text("Rollout of pubsub against polling")
    await expect(state).to_have_text(re.compile(r"^Step 2 of 4, 10 %: watching since .+\. The guard: pass\.$"))
    await expect(part).to_contain_text(re.compile(r"Next judgement in [6-9]\d s\."))
    figures = re.compile(r"delivery_latency\.p99\s*17\.7 ms\s*141 ms\s*pass")
    await expect(part.get_by_role("row").last).to_have_text(figures)
    await expect(part).to_contain_text("beside polling now: on to 10 %.")
    await page.set_viewport_size({"width": 320, "height": 700})
    assert await page.evaluate("document.getElementById('main').scrollWidth") <= 320
    found = await Axe().run(page, context="#rollout")
    assert found.violations_count == 0, found.generate_report()
    await tell(WATCHING, age_s=300)
    lost = re.compile(r"No word of its controller for 5 min: resume it with `streamgauge rollout --resume`\.")
    await expect(part).to_contain_text(lost)
    await expect(state).to_contain_text("overdue")
    await tell(WATCHING.model_copy(update=BACK))
    await expect(state).to_contain_text(re.compile(r"^Rolled back at step 2 of 4, 10 %, "))
    await expect(part).to_contain_text("Rolled back to polling: slow")
    await expect(part.get_by_role("listitem")).to_have_text(["slow"])
    await expect(part).not_to_contain_text("No word")
