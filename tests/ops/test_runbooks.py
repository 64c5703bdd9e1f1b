"""The runbooks: what a tired person is told to do can be done, and what they are told to look at is there."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from app.settings import Settings
from dashboards import render
from ops.cli import app as command_line
from ops.flag_commands import commands as flag_commands

BOOKS = sorted((Path(__file__).parent.parent.parent / "ops/runbooks").glob("*.md"))
PAGES = {
    page["title"].removeprefix("streamgauge / "): {panel["title"] for panel in page["panels"]}
    for page in map(json.loads, render.files().values())
}
PANELS = set().union(*PAGES.values())
HEADINGS = ["Look", "Do", "Over when"]
AT_MOST = 30
"""Lines that a person reads at three in the morning."""


@pytest.fixture(params=BOOKS, ids=[book.stem for book in BOOKS])
def book(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_a_runbook_says_what_it_is_where_to_look_what_to_do_and_when_it_is_over(book: Path) -> None:
    """Always in the same order, under its alert's name, and short; looking is in numbered steps, doing in choices."""
    text = book.read_text()
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    title, what = parts[0].strip().split("\n\n")
    assert title == f"# {book.stem}"
    assert what.endswith(".")
    assert parts[1::2] == HEADINGS
    look, do, over = (part.strip().splitlines() for part in parts[2::2])
    assert [line.split(".")[0] for line in look] == [str(number) for number in range(1, len(look) + 1)]
    assert all(line.startswith("- ") for line in do)
    assert len(over) == 1
    assert len(text.splitlines()) <= AT_MOST


def test_each_step_names_something_to_look_at(book: Path) -> None:
    """A panel, something to type, or another runbook: never only a question."""
    look = book.read_text().split("## Look")[1].split("## Do")[0]
    for step in look.strip().splitlines():
        assert re.search(rf"\*\*|`|{'|'.join(other.stem for other in BOOKS)}", step) or "log" in step, step


def test_the_panels_that_it_names_exist(book: Path) -> None:
    """In bold, and on the page that was named last before them, if one was."""
    page = ""
    for italic, bold in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)|\*\*([^*]+)\*\*", book.read_text()):
        if italic:
            page = italic
            assert page in PAGES, f"no page is called {page}"
        else:
            assert bold in PANELS, f"no panel is called {bold}"


def test_what_it_says_to_type_is_a_command(book: Path) -> None:
    """Each `streamgauge …` is a command of ours, with options that it has."""
    commands = get_command(command_line).commands  # type: ignore[attr-defined]  # a group has commands
    flags = get_command(flag_commands).commands  # type: ignore[attr-defined]
    for line in re.findall(r"`streamgauge ([^`]+)`", book.read_text()):
        name, *rest = line.split()
        assert name in commands, line
        if name == "flag":
            assert rest[0] in flags, line
        elif name == "up":
            known = {option for parameter in commands[name].params for option in parameter.opts}
            assert {word for word in rest if word.startswith("--")} <= known, line


def test_the_settings_that_it_names_exist(book: Path) -> None:
    """By their names in the environment."""
    ours = {f"STREAMGAUGE_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"STREAMGAUGE_[A-Z_]+", book.read_text())) <= ours


def test_the_runbooks_that_it_names_exist(book: Path) -> None:
    """A word in camel case is one of them."""
    named = set(re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", book.read_text()))
    assert named - {"PostgreSQL"} <= {other.stem for other in BOOKS}
