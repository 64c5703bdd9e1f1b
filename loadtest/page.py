"""One self-contained HTML file: sections of figures, tables and sentences. No script, no request, no other file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jinja2

from loadtest.plots.svg import Key, key

TEMPLATES = Path(__file__).parent / "templates"
GOOD = "VALID"


@dataclass(frozen=True)
class Table:
    """Cells as they are to be read; the first column names the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False
    """Whether the cells are words, which begin at the left, and not numbers."""


@dataclass(frozen=True)
class Figure:
    """A plot with what it shows and the same in numbers, for those who can't see it."""

    title: str
    says: str
    svg: str
    table: Table
    legend: Sequence[tuple[str, int]] = ()
    """Names and colours of the series in it."""
    key: Key = "line"
    """What the legend's colours are those of."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it, in this order: sentences, figures, tables, and text to be copied."""

    title: str
    sentences: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[tuple[str, Table]] = ()
    code: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Page:
    """The whole document; `verdicts` are (name, verdict, its reasons), first of all."""

    title: str
    made: str
    findings: Sequence[str]
    verdicts: Sequence[tuple[str, str, Sequence[str]]]
    headline: Table
    lead: Figure | None
    """The plot beside the headline's figures."""
    sections: Sequence[Section]


def write(page: Page, file: Path) -> None:
    """The page as a file."""
    file.write_text(render(page), encoding="utf-8")


def render(page: Page) -> str:
    """The page as HTML. Every text is escaped; only drawings of ours are not."""
    return _templates().get_template("page.html").render(page=page, good=GOOD, key=key)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
