"""The plots of a page as files of their own, for a README: each an SVG that brings its colours, dark and light."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

from loadtest.page import TEMPLATES, Figure
from loadtest.plots.svg import KEY_HEIGHT, WIDTH, Key, element, key, text

FOLDER = "pictures"
ROW, LETTER, KEY, INDENT = 24, 8.2, 52, 8
FONT = 'svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }'
OPENING = re.compile(r'<svg viewBox="0 0 (?P<width>\S+) (?P<height>[^"]+)"(?P<rest>[^>]*)>')


def write(figures: Iterable[Figure], folder: Path) -> list[tuple[str, str]]:
    """Each as `pictures/NAME.svg`; returns their titles and their places beside the report."""
    (folder / FOLDER).mkdir(exist_ok=True)
    found = []
    for figure in figures:
        place = f"{FOLDER}/{re.sub(r'[^a-z0-9]+', '-', figure.title.lower()).strip('-')}.svg"
        (folder / place).write_text(standalone(figure), encoding="utf-8")
        found.append((figure.title, place))
    return found


def standalone(figure: Figure) -> str:
    """The drawing with its legend above it, on paper of its own."""
    opening = OPENING.match(figure.svg)
    if opening is None:
        raise ValueError(f"{figure.title!r} is no drawing of ours: it begins with {figure.svg[:40]!r}")
    keys, above = _legend(figure.legend, figure.key)
    height = float(opening["height"]) + above
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 {-above} {WIDTH} {height:g}"{opening["rest"]}>'
    style = f"<style>{escape(_style(), quote=False)}</style>"
    paper = f'<rect x="0" y="{-above}" width="{WIDTH}" height="{height:g}" style="fill: var(--card)"/>'
    return "".join([head, style, paper, *keys, figure.svg[opening.end() :], "\n"])


def _legend(legend: Sequence[tuple[str, int]], kind: Key) -> tuple[list[str], int]:
    """The keys, in as many rows as they take, and the height of those."""
    drawn, across, row = [], float(INDENT), 0
    for name, colour in legend:
        width = KEY + LETTER * len(name)
        if across + width > WIDTH and across > INDENT:
            across, row = float(INDENT), row + 1
        drawn.append((name, colour, across, row))
        across += width
    above = ROW * (row + 1) if legend else 0
    keys = []
    for name, colour, at, line in drawn:
        y = ROW * (line + 0.5) - above
        keys.append(element("g", [key(kind, colour)], transform=f"translate({at:g} {y - KEY_HEIGHT / 2:g})"))
        keys.append(text(name, at + 32, y + 5))
    return keys, above


@cache
def _style() -> str:
    return (TEMPLATES / "plots.css").read_text(encoding="utf-8") + FONT
