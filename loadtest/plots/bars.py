"""Lying bars made of parts, one a line: how a whole is divided, or what happened one after the other."""

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.plots.scales import Scale
from loadtest.plots.svg import RIGHT, SHADES, WIDTH, Box, drawing, element, place, text

ROW, THICK, LABELS, TOP, BOTTOM = 34, 18, 196, 14, 56


class Part(NamedTuple):
    """From here to there, in this shade."""

    name: str
    start: float
    end: float
    shade: int


class Bar(NamedTuple):
    """A line: its name, its parts, and an instant to be marked in it."""

    name: str
    parts: Sequence[Part]
    mark: float | None = None


def box_of(bars: int) -> Box:
    """Where so many bars lie: the scale needs it."""
    return Box(LABELS, TOP, WIDTH - RIGHT, TOP + ROW * bars)


def bars(label: str, title: str, scale: Scale, found: Sequence[Bar]) -> str:
    """All bars, from the top, over one axis."""
    box = box_of(len(found))
    ticks = scale.ticks()
    rules = "".join(f"M{place(tick.at)} {place(box.top)}V{place(box.bottom)}" for tick in ticks)
    parts = [element("path", d=rules, class_="rule")]
    for index, one in enumerate(found):
        parts += _bar(one, scale, box, box.top + ROW * (index + 0.5))
    parts += [
        text(tick.label, tick.at, box.bottom + 19, class_="tick x minor" if tick.minor else "tick x") for tick in ticks
    ]
    parts.append(text(title, (box.left + box.right) / 2, box.bottom + 44, class_="axis"))
    return drawing(label, parts, box.bottom + BOTTOM)


def _bar(one: Bar, scale: Scale, box: Box, y: float) -> list[str]:
    drawn = [text(one.name, box.left - 12, y, class_="tick y")]
    for part in one.parts:
        left, right = scale.at(part.start), scale.at(part.end)
        if right > left:
            rect = element(
                "rect", [element("title", [part.name])], x=left, y=y - THICK / 2, width=right - left, height=THICK,
                class_=f"part p{part.shade % SHADES}",
            )  # fmt: skip
            drawn.append(rect)
    if one.mark is not None:
        at = place(scale.at(one.mark))
        drawn.append(element("path", d=f"M{at} {place(y - THICK)}V{place(y + THICK)}", class_="one"))
    return drawn
