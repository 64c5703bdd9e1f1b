"""Ratios with their intervals, one a line, on a logarithmic axis, over the band of what is no difference."""

from collections.abc import Sequence
from typing import NamedTuple

from loadtest.plots.scales import Log, around
from loadtest.plots.svg import COLOURS, RIGHT, WIDTH, Box, drawing, element, place, text

ROW, LABELS, TOP, BOTTOM = 34, 176, 14, 56
LETTER = 12
"""Of a label, where letters are largest: on a phone."""


class Line(NamedTuple):
    """One ratio; without an interval it is a hollow point, without a colour it is no backend's."""

    name: str
    colour: int | None
    estimate: float
    low: float | None
    high: float | None


def forest(label: str, title: str, found: Sequence[Line], band: tuple[float, float] | None) -> str:
    """A line each, from the top; 1 is drawn through all, and the band behind them."""
    edges = [edge for one in found for edge in (one.estimate, one.low, one.high) if edge is not None]
    low, high = around([*edges, *(band or ()), 0.9, 1.1], least=1e-4)
    labels = max(LABELS, LETTER * max((len(one.name) for one in found), default=0))
    box = Box(labels, TOP, WIDTH - RIGHT, TOP + ROW * len(found))
    x = Log(low, high, box.left, box.right, lambda value: f"{value:g}×")
    parts = _ground(box, x, band)
    for index, one in enumerate(found):
        parts += _line(one, x, box, box.top + ROW * (index + 0.5))
    parts += [
        text(tick.label, tick.at, box.bottom + 19, class_="tick x minor" if tick.minor else "tick x")
        for tick in x.ticks()
    ]
    parts.append(text(title, (box.left + box.right) / 2, box.bottom + 44, class_="axis"))
    return drawing(label, parts, box.bottom + BOTTOM)


def _ground(box: Box, x: Log, band: tuple[float, float] | None) -> list[str]:
    parts = []
    if band is not None:
        left, right = x.at(band[0]), x.at(band[1])
        parts.append(element("rect", x=left, y=box.top, width=right - left, height=box.bottom - box.top, class_="band"))
    rules = "".join(f"M{place(tick.at)} {place(box.top)}V{place(box.bottom)}" for tick in x.ticks())
    one = f"M{place(x.at(1))} {place(box.top)}V{place(box.bottom)}"
    return [*parts, element("path", d=rules, class_="rule"), element("path", d=one, class_="one")]


def _line(one: Line, x: Log, box: Box, y: float) -> list[str]:
    colour = "plain" if one.colour is None else f"s{one.colour % COLOURS}"
    parts = [text(one.name, box.left - 12, y, class_="tick y")]
    if one.low is not None and one.high is not None:
        left, right = place(x.at(one.low)), place(x.at(one.high))
        ends = f"M{left} {place(y - 6)}v12M{right} {place(y - 6)}v12"
        parts.append(element("path", d=f"M{left} {place(y)}H{right}{ends}", class_=f"whisker {colour}"))
    kind = "dots" if one.low is not None else "hollow"
    return [*parts, element("circle", cx=x.at(one.estimate), cy=y, r=5.5, class_=f"{kind} {colour}")]
