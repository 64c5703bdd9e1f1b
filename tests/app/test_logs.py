"""What the processes of a stack say: lines that a machine reads, about what they name, and that give nothing away."""

import asyncio
import contextlib
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from app.settings import Settings
from app.telemetry import logs
from ops.processes import tail
from ops.stack import Stack, StackOptions, running_stack
from ops.trace_view import read_trace
from tests.support.client import Client, Posted
from tests.support.waiting import until

CANARY = "heliotrope-canary"
IN_THE_ANSWER = "This is a scripted answer"
SAYS = "import logging; from app.settings import Settings; from app.telemetry import logs; logs.configure(Settings()); "
SAYS_OTHERWISE = "; logs.configure(Settings({})); "


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose processes, and their libraries, say all they can."""
    options = StackOptions(
        tmp_path_factory.mktemp("talkative"),
        port=0,
        keep_data=False,
        traces=True,
        own_broker=True,
        environment=os.environ | {"STREAMGAUGE_LOG_LEVEL": "DEBUG", "STREAMGAUGE_WORKER_DRAIN_S": "1"},
    )
    with running_stack(options) as stack:
        yield stack


def ask(stack: Stack, script: str) -> Posted:
    """Ask a question with the canary in it, and hear the answer out."""

    async def asked() -> Posted:
        async with httpx2.AsyncClient(base_url=stack.api_url, timeout=30) as http:
            client = Client(http)
            conversation = await client.conversation()
            body = {"content": f"Tell me of the {CANARY}", "model": f"scripted?{script}"}
            response = await http.post(f"/conversations/{conversation}/messages", json=body)
            posted = Posted(conversation, **response.json())
            await client.whole(posted.task_id)
            return posted

    return asyncio.run(asked())


@contextlib.contextmanager
def asking(stack: Stack, script: str, count: int) -> Iterator[list[str]]:
    """Ask so many questions, and do not wait for the answers; their tasks, which are cancelled in the end."""
    with httpx2.Client(base_url=stack.api_url, timeout=30) as http:
        conversation = http.post("/conversations", json={}).json()["id"]
        body = {"content": "Hello", "model": f"scripted?{script}"}
        headers = {"X-Streamgauge-Backend": "polling"}
        path = f"/conversations/{conversation}/messages"
        tasks = [str(http.post(path, json=body, headers=headers).json()["task_id"]) for _ in range(count)]
        yield tasks
        for task_id in tasks:
            http.post(f"/stream/{task_id}/cancel")


def lines(stack: Stack, part: str) -> list[dict[str, Any]]:
    """Each line of a part's log; all of them are JSON objects."""
    return [json.loads(line) for line in (stack.logs / f"{part}.log").read_text().splitlines()]


@pytest.mark.parametrize("part", ["api-1", "worker-1"])
def test_every_line_is_json_and_leads_to_its_trace(talkative: Stack, part: str) -> None:
    """Also those of Celery and uvicorn; one about a message names its task, itself, its backend, and the trace."""
    posted = ask(talkative, "ttft=0.01&gap=0.001&chunks=5")
    task_id = UUID(posted.task_id)
    until(lambda: read_trace(talkative.traces, task_id), "the trace is written")

    def about() -> list[dict[str, Any]]:
        return [line for line in lines(talkative, part) if line.get("message") == posted.message_id]

    until(about, "it speaks of the message")
    for line in about():
        assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
        assert (line["trace"], line["task"], line["backend"]) == (task_id.hex, posted.task_id, "pubsub")


def of_celery(stack: Stack) -> list[dict[str, Any]]:
    """What Celery says in the worker."""
    with contextlib.suppress(ValueError):  # a line of which only the beginning is there
        return [line for line in lines(stack, "worker-1") if line["logger"].startswith("celery")]
    return []


def test_celerys_lines_name_their_task(talkative: Stack) -> None:
    """They come from its consumer's thread, where nobody knows what a task is about."""
    posted = ask(talkative, "ttft=0.01&gap=0.001&chunks=5")

    def about() -> list[dict[str, Any]]:
        return [line for line in of_celery(talkative) if line.get("task") == posted.task_id]

    until(lambda: any("succeeded" in line["event"] for line in about()), "Celery says that the task is done")
    [received] = [line for line in about() if "received" in line["event"]]
    assert received["trace"] == UUID(posted.task_id).hex


def test_a_worker_that_stops_without_its_broker_logs_json(talkative: Stack) -> None:
    """Each line but the one that Celery writes from its signal handler, whatever else could not be done."""
    worker, log = talkative.processes["worker-1"], talkative.logs / "worker-1.log"
    with asking(talkative, "ttft=30", 4) as tasks:

        def received() -> set[Any]:
            return {line.get("task") for line in of_celery(talkative) if "received" in line["event"]}

        until(lambda: received() >= set(tasks), "the worker has all of them")
        talkative.processes["broker"].kill()
        try:
            until(lambda: "Trying again" in log.read_text(), "the worker has noticed")
            worker.stop()
            written = log.read_text().splitlines()
        finally:
            log.write_text("")  # the lines of its next start are JSON again
            talkative.restart("broker", "worker-1")
    plain = [line for line in written if not line.startswith("{")]
    assert len(plain) <= 2, plain
    assert all("worker: " in line for line in plain if line)


def test_no_word_of_question_or_answer_is_in_any_log(talkative: Stack) -> None:
    """Not when all is well, and not when the model breaks in mid-word; whatever level the log has."""
    for script in ("ttft=0.01&gap=0.001&chunks=5", "ttft=0.01&gap=0.001&chunks=5&fault=garbage&at=3", "fault=500"):
        posted = ask(talkative, script)
        until(
            lambda task=posted.task_id: task in (talkative.logs / "worker-1.log").read_text(),  # type: ignore[misc]
            "the worker speaks of the task",
        )
    written = {path.name: path.read_text(errors="replace") for path in talkative.logs.iterdir()}
    assert "no chunk" in written["worker-1.log"], "the log says that the model sent garbage"
    assert {"api-1.log", "worker-1.log", "model.log", "postgres.log", "valkey.log"} <= written.keys()
    for name, text in written.items():
        assert CANARY not in text, name
        assert IN_THE_ANSWER not in text, name


def line_of(settings: Settings, message: str, error: Exception | None = None) -> dict[str, Any]:
    """What becomes of a record."""
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("app", logging.WARNING, __file__, 1, message, None, info)
    line: dict[str, Any] = json.loads(logs.formatter(settings).format(record))
    return line


def test_a_secret_is_hidden_wherever_it_is_said() -> None:
    """The password of any URL, the model's key, a token and a key's digest, in a message or in an error's traceback."""
    settings = Settings(
        log_format="json", openai_api_key="sk-verysecret", metrics_token="scrape-this", api_keys={"ab" * 32: "ada"}
    )
    error = ValueError("postgresql://me:hunter2@db/x refused sk-verysecret")
    line = line_of(settings, "redis://:hunter2@store:6379/0 is away", error)
    assert line["event"] == "redis://:…@store:6379/0 is away"
    assert "postgresql://me:…@db/x refused …" in line["exception"]
    assert line_of(settings, f"scrape-this {'ab' * 32}")["event"] == "… …"
    assert "hunter2" not in str(line)
    assert "sk-verysecret" not in str(line)


@pytest.mark.anyio
async def test_tasks_do_not_mix_up_what_they_are_about() -> None:
    """Each names its own, its children's lines do too, and a hand-over shows in both."""
    settings = Settings(log_format="json")
    first, second = uuid4(), uuid4()

    async def stream(task_id: UUID) -> dict[str, Any]:
        logs.about(task_id, task_id, "pubsub")
        await asyncio.create_task(handing_over())
        return line_of(settings, "ended")

    async def handing_over() -> None:
        await asyncio.sleep(0)  # the other stream's turn, in mid-way
        logs.moved("polling")

    for task_id, line in zip((first, second), await asyncio.gather(stream(first), stream(second)), strict=True):
        assert (line["task"], line["message"], line["backend"]) == (str(task_id), str(task_id), "polling")
    assert "task" not in line_of(settings, "nobody's")


def said(code: str) -> list[str]:
    """What a process says that logs so, line by line; it has no terminal."""
    return subprocess.run(
        [sys.executable, "-c", SAYS + code], capture_output=True, text=True, check=True
    ).stderr.splitlines()


def test_a_person_at_a_terminal_reads_colours() -> None:
    """And a file or a pipe gets JSON, unless the setting says otherwise."""
    code = "logging.getLogger('app').warning('the river is high')"
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        subprocess.run([sys.executable, "-c", SAYS + code], stderr=theirs, check=True)
        os.close(theirs)
        shown = terminal.readline().decode()
    assert "\x1b[" in shown
    assert "the river is high" in shown
    usual, plain = said(code + SAYS_OTHERWISE.format("log_format='console'") + code)
    assert json.loads(usual)["event"] == "the river is high"
    assert "the river is high" in plain
    assert not plain.startswith("{")
    assert "\x1b[" not in plain


def test_what_people_and_models_said_shows_only_where_it_was_asked_for() -> None:
    """Its length shows always, and how to see the rest."""
    code = "logging.warning(logs.quoted('the river is high'))"
    usual, shown = said(code + SAYS_OTHERWISE.format("log_content=True") + code)
    assert "(17 characters, which STREAMGAUGE_LOG_CONTENT=true would show)" in usual
    assert "the river is high" in shown


def test_the_tail_of_a_log_is_for_people(tmp_path: Path) -> None:
    """When a part fails, its last words are no JSON; a line that is no log line of ours stays as it is."""
    log = tmp_path / "part.log"
    ours = {"timestamp": "now", "level": "error", "logger": "app", "event": "it broke", "exception": "Trace\nback"}
    log.write_text(f"{json.dumps(ours)}\n7\nno JSON\n")
    assert tail(log).splitlines()[1:] == ["ERROR app: it broke", "Trace", "back", "7", "no JSON"]
