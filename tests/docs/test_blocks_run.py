"""What the documents show to be typed does run, document by document, on a system that `streamgauge up` runs."""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.docs.blocks import CANNOT_RUN, PYTHON, ROOT, SHELL, Block, blocks
from tests.support.up import ALONE, Up, streamgauge_up

ALL = blocks(*SHELL, *PYTHON)
RUNNABLE = [block for block in ALL if block.why_not is None]
SCRIPTS = [block for block in RUNNABLE if block.language in PYTHON]
PROGRAMS = {"streamgauge": "-m ops.cli", "locust": "-m locust", "python": ""}
SERVERS = {"DATABASE_URL": "postgres", "REDIS_URL": "valkey", "BROKER_URL": "valkey", "OPENAI_BASE_URL": "model"}
"""What the documents say once, and their shells need."""
THE_API = "http://127.0.0.1:8000"
ALSO_THE_API = re.compile(r"http://10\.0\.0\.5:8000|https://chat\.example\.org")
READING = re.compile(r"streamgauge ((?:doctor (?!--repair)|flag show|flag history)[^#]*)")
"""Commands that change nothing."""
WARNINGS_ONLY = 3
"""What `streamgauge doctor` may answer about a machine that runs tests."""


def sessions() -> dict[str, list[str]]:
    """What is typed, by document; a command that only reads is left out where another has it word for word."""
    found, read = dict[str, list[str]](), set[str]()
    for block in (block for block in RUNNABLE if block.language in SHELL):
        for command in (ALSO_THE_API.sub(THE_API, line) for line in block.commands):
            if reading := READING.search(command):
                words = reading[1].strip()
                if words in read:
                    continue
                read.add(words)
            found.setdefault(block.document, []).append(command)
    return found


SESSIONS = sessions()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The system, in a folder that looks like a clone with its .venv."""
    folder = tmp_path_factory.mktemp("clone")
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    for name, arguments in PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {arguments} "$@"\n')
        program.chmod(0o755)
    for name in ("app", "dashboards", "loadtest", "ops"):
        (folder / name).symlink_to(ROOT / name)
    try:
        with streamgauge_up(folder) as running:
            yield running
    finally:
        for memory in folder.rglob("servers.path"):
            shutil.rmtree(memory.read_text())


def here(text: str, up: Up) -> str:
    """The text with the addresses of this system in the place of a document's, and a shorter load."""
    for shown, ours in (
        (THE_API, up.api_url),
        ("http://127.0.0.1:9100", up.address("worker-1")),
        ("http://127.0.0.1:9000/v1", up.address("model")),
        ("OPENAI_BASE_URL=…", f"OPENAI_BASE_URL={up.address('model')}"),
        ("OPENAI_API_KEY=…", "OPENAI_API_KEY=none"),
        ("postgresql://…", up.address("postgres")),
        ("redis://…", up.address("valkey")),
        ("--users 20", "--users 4"),
        ("--run-time 3m", "--run-time 10s"),
        ("sleep 8", "sleep 4"),
        ("sleep 3", "sleep 1"),
    ):
        text = text.replace(shown, ours)
    return text


def run(argv: list[str], up: Up, limit_s: float) -> str:
    """What a program prints there; it has to end well."""
    folder = up.folder.parent
    servers = {name: up.address(part) for name, part in SERVERS.items()}
    environment = ALONE | servers | {"PATH": f"{folder}/.venv/bin:{ALONE['PATH']}"}
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit_s)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


async def forget_the_flag(up: Up) -> None:
    """Leave new messages to the default."""
    database = await asyncpg.connect(up.address("postgres"))
    await database.execute("DELETE FROM flag_document")
    await database.close()


@pytest.mark.timeout(440)
@pytest.mark.parametrize("document", SESSIONS)
def test_a_documents_commands_run(document: str, up: Up) -> None:
    """All of them in one shell, as somebody would who reads it from the beginning.

    One that only reads may be left to another document that shows it as well.
    """
    asyncio.run(forget_the_flag(up))
    script = ["set -u"]
    for command in SESSIONS[document]:
        also = f"|| [ $code = {WARNINGS_ONLY} ]" if re.search(r"\bdoctor\b", command) else ""
        script.append(f"{here(command, up)}\ncode=$?; [ $code = 0 ] {also} || exit $code")
    run(["bash", "-xc", "\n".join([*script, "wait"])], up, 420)


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.document)
def test_a_documents_python_runs(block: Block, up: Up, tmp_path: Path) -> None:
    """And prints what the block after it shows."""
    script = tmp_path / "shown.py"
    script.write_text(here(block.text, up))
    printed = run([sys.executable, str(script), up.api_url, "How high is the river?"], up, 60)
    text = (ROOT / block.document).read_text()
    shown = re.match(r"```\n+```text\n(.*?)```", text.partition(block.text)[2], re.DOTALL)
    assert shown
    assert printed == shown[1]


@pytest.mark.parametrize(("document", "begins"), CANNOT_RUN)
def test_what_cannot_run_is_still_there(document: str, begins: str) -> None:
    """The list holds no block that is gone."""
    found = [block for block in ALL if block.document == document and (block.commands or [""])[0].startswith(begins)]
    assert len(found) == 1, f"{document} has {len(found)} blocks that begin with {begins}"


def test_every_shell_block_has_prompts() -> None:
    """Else nothing of it would be run, and no one would notice."""
    assert [block for block in ALL if block.language in SHELL and not block.commands] == []


def test_quoting_survives() -> None:
    """A continued line is one command."""
    block = Block("x.md", "console", "$ echo 'a' \\\n    b  # why\nout\n$ true\n")
    assert [shlex.split(one, comments=True) for one in block.commands] == [["echo", "a", "b"], ["true"]]
