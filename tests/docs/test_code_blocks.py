"""Code blocks of every document are such as run: commands and their options exist, and what is to be parsed parses."""

import ast
import json
import re
import shlex
from collections.abc import Callable
from functools import cache

import pytest
import yaml
from typer.main import get_command

from ops.cli import app as command_line
from tests.docs.blocks import ROOT, SHELL, Block, blocks
from tests.support.command import streamgauge_here

COMMANDS = set(get_command(command_line).commands)  # type: ignore[attr-defined]  # a group has commands
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def lines() -> list[tuple[str, list[str]]]:
    """Each command that a document shows at a prompt, in words, with remarks left out."""
    found = []
    for block in blocks(*SHELL):
        for line in block.commands:
            words = shlex.split(line.replace("'", '"') if line.count("'") % 2 else line, comments=True)
            found.append((block.document, words))
    return found


@cache
def usage(*command: str) -> str:
    """What a command says of its options."""
    done = streamgauge_here(*command, "--help", folder=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def called(words: list[str]) -> list[str]:
    """A command line without the variables that are set before it."""
    return words[next((place for place, word in enumerate(words) if not re.match(r"\w+=", word)), len(words)) :]


SHOWN = [
    (name, called(words))
    for name, words in lines()
    if called(words)[:1] in (["streamgauge"], [".venv/bin/streamgauge"])
]


@pytest.mark.parametrize(
    ("name", "words"), SHOWN, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_shown_command_exists_with_its_options(name: str, words: list[str]) -> None:
    """By the help of the command itself."""
    command, *rest = words[1:]
    assert command in COMMANDS, f"{name}: {command}"
    nested = rest[:1] if command == "flag" else []
    for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
        assert re.search(rf"{option}\b", usage(command, *nested)), f"{name}: {command} has no {option}"


def test_shown_make_targets_exist() -> None:
    """Of the Makefile."""
    for name, words in lines():
        if words[:1] == ["make"]:
            assert set(re.findall(r"^\w+$", words[1])) <= TARGETS, name


@pytest.mark.parametrize("block", blocks("python", "json", "yaml"), ids=lambda block: block.document)
def test_other_blocks_parse(block: Block) -> None:
    """As what they say they are."""
    parsers: dict[str, Callable[[str], object]] = {"python": ast.parse, "json": json.loads, "yaml": yaml.safe_load}
    parsers[block.language](block.text)
