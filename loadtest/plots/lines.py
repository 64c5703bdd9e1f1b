"""Curves, filled steps and points in one frame."""

from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

from loadtest.plots.scales import Scale
from loadtest.plots.svg import COLOURS, Box, axes, drawing, element, place, text

Kind = Literal["line", "area", "dots"]
DOT = 3.5


class Series(NamedTuple):
    """One backend's points; a null y interrupts the line."""

    name: str
    colour: int
    points: Sequence[tuple[float, float | None]]
    kind: Kind = "line"


class Mark(NamedTuple):
    """A level to hold the curves against, across the whole plot."""

    name: str
    y: float


class Instant(NamedTuple):
    """Something that happened, across the whole plot; its name stands above it and what it was is its title."""

    name: str
    x: float
    what: str


def lines(
    label: str,
    scales: tuple[Scale, Scale],
    titles: tuple[str, str],
    series: Sequence[Series],
    marks: Sequence[Mark] = (),
    instants: Sequence[Instant] = (),
) -> str:
    """All series over each other; the later ones lie on top."""
    x, y = scales
    box = Box()
    drawn = [element("path", d=f"M{box.left} {place(y.at(mark.y))}H{box.right}", class_="mark") for mark in marks]
    drawn += [_series(one, x, y) for one in series]
    drawn += [_instant(one, x.at(one.x), box) for one in instants]
    return drawing(label, [*axes(box, x, y, *titles), *drawn])


def _instant(one: Instant, across: float, box: Box) -> str:
    title = element("title", [escape(one.what)])
    line = element("path", d=f"M{place(across)} {place(box.top)}V{place(box.bottom)}", class_="mark")
    return element("g", [title, line, text(one.name, across, box.top - 5, class_="tick x")])


def _series(one: Series, x: Scale, y: Scale) -> str:
    title = element("title", [one.name])
    colour = f"s{one.colour % COLOURS}"
    if one.kind == "dots":
        dots = [element("circle", cx=x.at(across), cy=y.at(up), r=DOT) for across, up in one.points if up is not None]
        return element("g", [title, *dots], class_=f"dots {colour}")
    stretches = _stretches(one.points)
    outline = "".join(_path(stretch, x, y) for stretch in stretches)
    if one.kind == "line":
        return element("path", [title], d=outline, class_=f"line {colour}")
    floor = place(y.at(0))
    filled = [f"{_path(some, x, y)}V{floor}H{place(x.at(some[0][0]))}z" for some in stretches]
    return element("path", [title], d="".join(filled), class_=f"area {colour}")


def _stretches(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The points between one interruption and the next."""
    found: list[list[tuple[float, float]]] = [[]]
    for across, up in points:
        if up is not None:
            found[-1].append((across, up))
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def _path(points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{place(x.at(across))} {place(y.at(up))}" for across, up in points)
