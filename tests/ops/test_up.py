"""`streamgauge up`: the whole system comes up with one command, serves, and goes without a trace."""

import io
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from rich.console import Console

from ops.display import show_stack
from ops.ports import free_port, is_free
from ops.processes import PartFailedError
from ops.stack import Part, Stack, StackOptions, running_stack
from ops.valkey_server import running_valkey
from tests.ops.supervised import is_alive, recorded
from tests.support.command import streamgauge_here
from tests.support.up import ALONE, PATIENCE, streamgauge_up
from tests.support.waiting import until

pytestmark = pytest.mark.long


def pasted(line: str) -> str:
    """What a shell answers to a line that is copied into it, wherever it runs."""
    done = subprocess.run(line, shell=True, cwd="/", env=ALONE, capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout + done.stderr


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def stream_of_an_answer(api_url: str) -> list[dict[str, Any]]:
    """Post a message and give the records of its stream."""
    conversation = post(f"{api_url}/conversations", {})
    accepted = post(f"{api_url}/conversations/{conversation['id']}/messages", {"content": "Hello", "max_tokens": 5})
    with urlopen(f"{api_url}/stream/{accepted['task_id']}", timeout=PATIENCE) as answer:
        lines = answer.read().decode().splitlines()
    return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


def is_answered(api_url: str) -> bool:
    """Post a message; a 503 means that the API has not found its servers again yet."""
    try:
        return bool(stream_of_an_answer(api_url)[-1]["chunk_type"] == "done")
    except HTTPError as error:
        error.close()
        if error.code != 503:
            raise
        return False


def all_ended(processes: dict[str, tuple[int, str]]) -> bool:
    return not any(is_alive(entry) for entry in processes.values())


@pytest.mark.timeout(300)
def test_a_system_comes_up_answers_and_goes(tmp_path: Path, system: Stack) -> None:
    """Below a folder that only its owner may enter, as large as it was asked for, while another system runs.

    What a kill -9 of the command left behind neither hinders its next start nor costs data. When a part crashes, the
    command fails: with the tail of the part's log, and a last line that says which it was, how it ended, and what to do
    next. The other system goes on.
    """
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    with streamgauge_up(folder, "--workers", "2", "--apis", "2") as up:
        assert stream_of_an_answer(up.api_url)[-1]["chunk_type"] == "done"
        assert "polling 100 %" in pasted(up.line("Flip:"))
        examined = pasted(up.line("Check:"))
        assert re.search(r"canary http\S+ +came through", examined), examined
        assert re.search(r"model +answers, and lists scripted", examined), examined
        conversation = post(f"{up.api_url}/conversations", {"title": "kept"})
        left = recorded(up.folder)
        assert set(left) == {"valkey", "postgres", "model", "worker-1", "worker-2", "api-1", "api-2"}
        up.command.kill()
    with streamgauge_up(folder) as up:
        assert all_ended(left)
        with urlopen(f"{up.api_url}/conversations/{conversation['id']}", timeout=10) as answer:
            assert json.load(answer)["title"] == "kept"
        parts = recorded(up.folder)
        os.kill(parts["api-1"][0], signal.SIGKILL)
        assert up.command.wait(PATIENCE) == 1
        assert up.command.stderr is not None
        complaint = up.command.stderr.read()
    assert "Application startup complete" in complaint
    last = complaint.splitlines()[-1]
    assert last.startswith("api-1 was ended by SIGKILL, so everything else was stopped too. ")
    assert f"Its whole log is {up.folder / 'logs/api-1.log'}; " in last
    assert "`streamgauge up` begins again" in last
    assert all_ended(parts)
    assert stream_of_an_answer(system.api_url)[-1]["chunk_type"] == "done"


def test_a_taken_port_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """A port that was asked for and is taken ends the start at once, with the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = streamgauge_here("up", "--port", str(port), folder=tmp_path)
    assert refused.returncode == 1
    assert f"Port {port} is taken" in refused.stderr
    assert "--port 0" in refused.stderr
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--port", "70000"), "less than or equal to 65535"),
        (("--folder", "/etc/passwd"), "Name another folder"),
        (("--folder", "/etc/passwd/below"), "Name another folder"),
    ],
)
def test_what_can_not_be_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """As any wrong option, and without a traceback."""
    refused = streamgauge_here("up", *arguments, folder=tmp_path)
    assert refused.returncode == 2
    assert words in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("variable", "form"),
    [("REDIS_URL", "redis"), ("BROKER_URL", "redis+sentinel"), ("DATABASE_URL", "postgresql+asyncpg")],
)
def test_a_persons_server_that_does_not_answer_ends_the_start(tmp_path: Path, variable: str, form: str) -> None:
    """Before anything has started; the line says which address to correct."""
    nobody = {variable: f"{form}://127.0.0.1:{free_port()}/0"}
    refused = streamgauge_here("up", "--port", "0", folder=tmp_path, **nobody)
    assert refused.returncode == 1
    assert f"{variable} names a server that does not answer" in refused.stderr
    assert "yours" not in refused.stdout
    assert not list(tmp_path.rglob("*.log"))


def test_no_cluster_is_promised(tmp_path: Path) -> None:
    """A setting that wants one starts nothing, rather than a system that can't use it."""
    wanted = {"STREAMGAUGE_STORE_CLUSTER": "true", "BROKER_URL": "redis://127.0.0.1:1/0", "REDIS_URL": ""}
    refused = streamgauge_here("up", "--port", "0", folder=tmp_path, **wanted)
    assert refused.returncode == 2
    assert "name a node of yours in REDIS_URL" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_stack_as_a_library(tmp_path: Path, database_url: str) -> None:
    """A program owns a system for a block; it can kill a part, and start it again where it was.

    Where the environment names a person's own servers, in any form that the settings take, none is started, and their
    passwords are not printed.
    """
    with running_valkey(tmp_path / "v") as valkey:
        own = {"REDIS_URL": valkey.url, "DATABASE_URL": database_url.replace("postgresql:", "postgresql+asyncpg:")}
        with running_stack(StackOptions(tmp_path / "stack", port=0, keep_data=False, environment=ALONE | own)) as stack:
            assert set(stack.processes) == {"model", "worker-1", "api-1"}
            for name in ("model", "worker-1"):
                stack.processes[name].kill()
            stack.restart("model", "worker-1")
            until(lambda: is_answered(stack.api_url), "an answer is streamed", PATIENCE)
            urls = (*stack.api_urls, stack.openai_base_url.removesuffix("/v1"))
            printed = io.StringIO()
            show_stack(Console(file=printed), stack)
        assert all(is_free(int(url.rpartition(":")[2])) for url in urls)
    assert stack.api_url in printed.getvalue()
    for url in (valkey.url, database_url, *own.values()):
        assert url not in printed.getvalue()


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, database_url: str) -> None:
    """A database that can't be migrated ends the start with the migration's complaint; what had started is ended."""
    empty = f"{database_url.rpartition('/')[0]}/postgres?options=-cdefault_transaction_read_only%3Don"
    ended: list[dict[str, tuple[int, str]]] = []

    def note(part: Part) -> None:
        if part.name == "valkey":
            ended.append(recorded(tmp_path))

    def start() -> None:
        options = StackOptions(tmp_path, port=0, environment=ALONE | {"DATABASE_URL": empty})
        with running_stack(options, note):
            raise AssertionError("it came up without a schema")

    with pytest.raises(PartFailedError, match=r"(?s)migrate ended with exit code 1.*read-only transaction"):
        start()
    assert ended
    assert all_ended(ended[-1])
