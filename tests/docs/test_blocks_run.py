"""What the documents show to be typed does run, document by document, on a system that `streamgauge up` runs."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.blocks import CANNOT_RUN, PYTHON, ROOT, SHELL, Block, blocks
from tests.support.up import ALONE, Up, streamgauge_up

ALL = blocks(*SHELL, *PYTHON)
RUNNABLE = [block for block in ALL if block.why_not is None]
SCRIPTS = [block for block in RUNNABLE if block.language in PYTHON]
SESSIONS = list(dict.fromkeys(block.document for block in RUNNABLE if block.language in SHELL))
PROGRAMS = {"streamgauge": "-m ops.cli", "locust": "-m locust", "python": ""}
SERVERS = {"DATABASE_URL": "postgres", "REDIS_URL": "valkey", "BROKER_URL": "valkey", "OPENAI_BASE_URL": "model"}
"""What the documents say once, and their shells need."""
WARNINGS_ONLY = 3
"""What `streamgauge doctor` may answer about a machine that runs tests."""


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
        ("http://127.0.0.1:8000", up.api_url),
        ("http://10.0.0.5:8000", up.api_url),
        ("https://chat.example.org", up.api_url),
        ("http://127.0.0.1:9100", up.address("worker-1")),
        ("http://127.0.0.1:9000/v1", up.address("model")),
        ("OPENAI_BASE_URL=…", f"OPENAI_BASE_URL={up.address('model')}"),
        ("OPENAI_API_KEY=…", "OPENAI_API_KEY=none"),
        ("postgresql://…", up.address("postgres")),
        ("redis://…", up.address("valkey")),
        ("--run-time 3m", "--run-time 12s"),
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


@pytest.mark.timeout(440)
@pytest.mark.parametrize("document", SESSIONS)
def test_a_documents_commands_run(document: str, up: Up) -> None:
    """All of them in one shell, as somebody would who reads it from the beginning."""
    script = ["set -u", "streamgauge flag set pubsub"]
    for command in (line for block in RUNNABLE if block.document == document for line in block.commands):
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
