"""The chat: an answer is read to its last letter, whatever happens to the page, the network or the model meanwhile."""

import asyncio
import contextlib
import json
import re

from playwright.async_api import Route, expect

from tests.browser.visitor import Tab, Visitor

COUNTED = """(answer) => ({
  said: Number(/Streaming, (\\d+) chunks/.exec(answer.querySelector(".state").textContent)[1]),
  words: answer.querySelector(".text").textContent.trim().split(/\\s+/).length,
})"""
"""How many chunks the page says came of an answer of one word each, and how many words stand there."""


async def is_whole(tab: Tab) -> None:
    """What stands on the page is the committed message, to the letter."""
    committed = await tab.committed()
    assert committed["status"] == "complete"
    assert await tab.text() == committed["content"]


async def test_an_answer_streams_and_stays_among_the_past_conversations(visitor: Visitor) -> None:
    """It grows while it comes; the conversation is in the list, also tomorrow, and a new one begins empty.

    Who looks at another tab meanwhile misses nothing, and sees in the title when it has ended.
    """
    tab = await visitor.tab()
    await tab.ask("How high is the river today?")
    early = await tab.grown_to(3)
    await tab.hide()
    await expect(tab.page).to_have_title("Answering · How high is the river today? · streamgauge")
    await expect(tab.page).to_have_title("How high is the river today? · streamgauge")
    assert await tab.page.evaluate("framesDue.length") <= 2, "one of the text, one of what is said beneath it"
    await tab.hide(False)
    await tab.is_complete()
    assert len(early) < len(await tab.text())
    await is_whole(tab)
    assert len(visitor.streams) == 1
    await tab.page.get_by_role("button", name="New conversation").click()
    await expect(tab.page.locator(".message")).to_have_count(0)
    await tab.page.get_by_role("link", name="How high is the river today?").click()
    await tab.is_complete()
    await is_whole(tab)


async def test_the_newest_words_stay_in_sight(visitor: Visitor) -> None:
    """A long conversation keeps its end in view while that grows, and leaves somebody alone who scrolled up."""
    tab = await visitor.tab()
    await tab.ask(model="scripted?ttft=0.05&gap=0.005&chunks=600")
    await tab.grown_to(500)
    await expect(tab.state).to_be_in_viewport()
    await tab.page.locator("#scroll").evaluate("(element) => (element.scrollTop = -element.scrollHeight)")
    first = tab.page.locator(".message").first
    await expect(first).to_be_in_viewport()
    await tab.is_complete()
    await expect(first).to_be_in_viewport()


async def test_a_reload_in_mid_answer_goes_on_where_it_was(visitor: Visitor) -> None:
    """The text so far is there at once, the rest is asked for by the last id, and nothing is missing or twice."""
    tab = await visitor.tab()
    await tab.ask()
    early = await tab.grown_to(15)
    await tab.page.reload()
    assert (await tab.grown_to(14)).startswith(early[:20])
    await tab.is_complete("Complete, resumed once")
    await is_whole(tab)
    assert "last-event-id" in await visitor.streams[-1].all_headers()


async def test_a_lost_network_in_mid_answer_costs_nothing(visitor: Visitor) -> None:
    """The page says that the answer goes on at the server, and reads the rest when the network is back.

    A Stop that nobody could take changes nothing of that, and what was said of it is gone with the answer's end.
    """
    tab = await visitor.tab()
    await tab.ask()
    await tab.grown_to(10)
    await visitor.context.set_offline(True)
    lost = "Connection lost. The answer goes on at the server"
    await expect(tab.state).to_contain_text(re.compile(rf"{lost}; (the next try is in \d s\.|reconnecting…)$"))
    await expect(tab.page.locator("#net")).to_contain_text("No network")
    await tab.page.locator("#question").fill("And now?")
    await tab.page.keyboard.press("Enter")
    await tab.page.keyboard.press("Escape")
    alert, said = tab.page.locator("#chat-alert"), tab.page.locator("#ask-said")
    await expect(alert).to_have_text(re.compile("^Not stopped. The server can't be reached."))
    await expect(said).to_contain_text("Not sent")
    await expect(tab.state).to_contain_text(lost)
    await visitor.context.set_offline(False)
    await tab.is_complete("Complete, resumed")
    await is_whole(tab)
    await expect(alert).to_be_empty()
    await expect(said).to_be_empty()


async def test_what_the_server_resets_is_discarded(loner: Visitor) -> None:
    """A tab that remembers an id beyond the stream's end is told to begin again, and shows none of what it had."""
    tab = await loner.tab()
    await tab.ask()
    await tab.grown_to(5)
    task = loner.streams[-1].url.rpartition("/")[2]
    wrong = json.dumps({"task": task, "last": "4000", "next": 4001, "text": "Of another stream. "})
    script = (
        f"if (sessionStorage.getItem('once') !== '1') sessionStorage.setItem('streamgauge.read', {json.dumps(wrong)})"
    )
    await loner.context.add_init_script(f"{script}; sessionStorage.setItem('once', '1')")
    await tab.page.reload()
    await tab.is_complete()
    assert "another" not in await tab.text()
    await is_whole(tab)


async def test_stop_keeps_what_came(visitor: Visitor) -> None:
    """The answer ends, and says that it was stopped; its beginning is kept here and in the database.

    While it runs the tab's title says so, its chunks are counted on when somebody was away at another conversation, and
    who sends another question learns that this one is to end first. Escape does that, once, however often pressed.
    """
    tab = await visitor.tab()
    await tab.ask("How deep?", model="scripted?ttft=0.05&gap=0.05&chunks=400")
    await tab.grown_to(20)
    await expect(tab.page).to_have_title("Answering · How deep? · streamgauge")
    await tab.page.get_by_role("button", name="New conversation").click()
    await expect(tab.page).to_have_title("New conversation · streamgauge")
    await tab.page.get_by_role("link", name="How deep?").click()
    await expect(tab.state).to_contain_text("resumed once")
    counted = await tab.answer.evaluate(COUNTED)
    assert abs(counted["said"] - counted["words"]) <= 3, counted
    await tab.page.locator("#question").fill("And how wide?")
    await tab.page.locator("#question").press("Enter")
    await expect(tab.page.locator("#ask-said")).to_contain_text("Not sent: the answer above was still running.")
    cancels = asyncio.Queue[Route]()
    await tab.page.route("**/cancel", cancels.put)
    for _ in range(2):
        await tab.page.keyboard.press("Escape")
    await expect(tab.state).to_have_text("Stopping…")
    await (await cancels.get()).continue_()
    await tab.is_complete("Stopped. What had come by then is kept.")
    assert cancels.empty()
    await expect(tab.page).to_have_title("Stopped · How deep? · streamgauge")
    await expect(tab.page.locator("#question")).to_have_value("And how wide?")
    committed = await tab.committed()
    assert (committed["status"], committed["partial"]) == ("cancelled", True)
    assert await tab.text() == committed["content"]
    await expect(tab.page.get_by_role("button", name="Stop")).to_be_disabled()


async def test_a_question_that_is_still_being_sent_can_be_stopped_and_left(visitor: Visitor) -> None:
    """Its answer ends as soon as it has begun. It stays in its own conversation, whatever is open by then.

    The view's link leads back to the conversation that is open.
    """
    tab = await visitor.tab()
    alert, messages = tab.page.locator("#chat-alert"), tab.page.locator(".message")
    held = asyncio.Queue[Route]()
    await tab.page.route("**/messages", held.put)
    long = "scripted?ttft=0.05&gap=0.05&chunks=400"
    await tab.ask("Too soon", model=long)
    await tab.page.keyboard.press("Escape")
    await expect(tab.page.locator("#ask-said")).to_contain_text("Stopping it as soon as it is sent")
    await (await held.get()).continue_()
    await tab.is_complete("Stopped.")
    assert (await tab.committed())["status"] == "cancelled"
    await tab.ask("And left", model=long)
    await tab.page.get_by_role("button", name="New conversation").click()
    await tab.page.get_by_role("button", name="Stop").click()
    await (await held.get()).continue_()
    await expect(tab.page.locator("#ask-said")).to_be_empty()
    await expect(messages).to_have_count(0)
    await tab.page.get_by_role("link", name="Too soon").click()
    await expect(messages).to_have_count(4)
    await tab.is_complete("Stopped.")
    await tab.turn_to("live")
    await tab.turn_to("chat")
    await expect(messages).to_have_count(4)
    await expect(alert).to_be_empty()


async def test_a_failure_says_why_keeps_what_came_and_can_be_asked_again(visitor: Visitor) -> None:
    """A partial answer looks like none that is whole."""
    tab = await visitor.tab()
    await tab.ask("And the moon?", "scripted?ttft=0.05&gap=0.02&fault=cut&at=12")
    await tab.is_complete("Failed: the model's server broke off or refused. What had come by then is kept.")
    assert await tab.text() == (await tab.committed())["content"] != ""
    await tab.choose("scripted?ttft=0.05&gap=0.01&chunks=1")
    await tab.page.get_by_role("button", name="Ask again").click()
    await tab.is_complete()
    await expect(tab.state.get_by_text("token")).to_have_text("1 token")
    await expect(tab.page.locator(".message")).to_have_count(4)
    await is_whole(tab)


async def test_a_refused_question_stays_in_the_box_with_what_to_do(visitor: Visitor) -> None:
    """Nothing that somebody typed or pasted is lost; a model that is not offered is marked where it stands.

    It leaves no conversation, neither listed nor open, and the next question none of its title.
    """
    tab = await visitor.tab()
    question, model = tab.page.locator("#question"), tab.page.get_by_label("Model")
    past, title = tab.page.locator("#past a"), tab.page.locator("#chat-title")
    asked = list[str]()
    tab.page.on("request", lambda request: asked.append(request.url))
    await tab.ask("A first one", "unheard-of")
    await expect(tab.page.locator("#chat-alert")).to_contain_text("its model is not offered here.")
    await expect(title).to_have_text("New conversation")
    await expect(tab.page).to_have_title("New conversation · streamgauge")
    await expect(past).to_have_count(0)
    assert tab.page.url.endswith("#chat")
    await tab.ask("A long question", "unheard-of")
    await expect(tab.page.locator("#chat-alert")).to_contain_text("its model is not offered here. Change it under")
    await expect(question).to_have_value("A long question")
    await expect(model).to_be_focused()
    await expect(model).to_have_attribute("aria-invalid", "true")
    await expect(model).to_have_accessible_description(re.compile("^Not offered here. Leave it empty for "))
    await model.fill("scripted?ttft=0.05&gap=0.01&chunks=5")
    await expect(model).not_to_have_attribute("aria-invalid", "true")
    await question.press("Enter")
    await tab.is_complete()
    await expect(title).to_have_text("A long question")
    await expect(past).to_contain_text(["A long question"])
    begun = [url for url in asked if url.endswith("/conversations")]
    assert len(begun) == 2, "the empty one served when its question was asked again"
    await question.fill("🌊" * 32_005)
    too_long = "32,005 characters, and a message has 32,000 at most: shorten it by 5, then send."
    await expect(question).to_have_accessible_description(too_long)
    await tab.page.get_by_role("button", name="Send").click()
    await expect(question).to_be_focused()
    assert len(await question.input_value()) == 32_005
    await expect(tab.page.locator(".message")).to_have_count(2)
    await question.fill("A short one")
    await expect(question).to_have_accessible_description("")
    await question.press("Enter")
    await expect(tab.page.locator(".message")).to_have_count(4)
    await tab.is_complete()


async def test_a_slow_stream_is_told_from_a_dead_one(loner: Visitor) -> None:
    """While the model is silent the page says that the worker lives; or for how long it has been lost, counting on."""
    await loner.context.clock.install()
    tab = await loner.tab()

    async def lost(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: keep-alive 20.0\n\n")
        with contextlib.closing(writer):
            await heard.wait()

    heard = asyncio.Event()
    async with await asyncio.start_server(lost, "127.0.0.1", 0) as server:
        elsewhere = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await tab.page.route("**/stream/*", lambda route: route.continue_(url=elsewhere), times=1)
        await tab.ask(model="scripted?ttft=0.05&gap=3.5&chunks=2")
        await expect(tab.state).to_have_text(re.compile(r"^Its worker has not been heard for 2[0-4] s\.$"))
        await tab.page.clock.fast_forward(7000)
        await expect(tab.state).to_have_text(re.compile(r"^Its worker has not been heard for (2[7-9]|3\d) s\.$"))
        heard.set()
        await expect(tab.state).to_contain_text("The model is quiet; its worker is alive.")
        await tab.is_complete()
    await is_whole(tab)


async def test_two_tabs_show_one_conversation(visitor: Visitor) -> None:
    """A second tab that opens it in mid-answer has the whole of it, as the first one has; and each hears of the other.

    Each text runs as its own script does.
    """
    first = await visitor.tab()
    await first.ask("Do you see what I see?")
    await first.grown_to(10)
    second = await visitor.tab(first.page.url.rpartition("#")[2])
    await expect(second.page.get_by_role("link", name="Do you see what I see?")).to_be_visible()
    for tab in (first, second):
        await tab.is_complete()
        await is_whole(tab)
    await second.ask("والآن؟", "scripted?ttft=0.05&gap=0.01&chunks=10")
    texts = first.page.locator(".message .text")
    await expect(texts).to_have_count(4)
    await first.is_complete()
    await expect(texts.nth(2)).to_have_css("direction", "rtl")
    await expect(texts.nth(3)).to_have_css("direction", "ltr")


async def test_a_conversation_that_is_gone_leaves_the_list(visitor: Visitor) -> None:
    """As after the server's database was emptied. An address of none says that; one asks on, in a new conversation."""
    tab = await visitor.tab("chat/00000000-0000-4000-8000-000000000000")
    alert = tab.page.locator("#chat-alert")
    await expect(alert).to_contain_text("This server has no such conversation any more")
    await tab.page.evaluate("location.hash = '#chat/nonsense'")
    await expect(alert).to_have_text("This address names no conversation. Choose one of yours, or begin a new one.")
    await tab.ask(model="scripted?ttft=0.05&gap=0.01&chunks=5")
    await tab.is_complete()
    await expect(alert).to_be_empty()
    await is_whole(tab)
