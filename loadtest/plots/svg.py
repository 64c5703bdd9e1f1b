"""The paper: elements, and the frame of axes that every plot stands in.

Colours and sizes of letters are the page's style sheet's, so that a plot obeys dark and light, screen and print.
"""

from collections.abc import Sequence
from html import escape
from typing import Literal, NamedTuple

from loadtest.plots.scales import Scale

WIDTH, HEIGHT = 600, 320
LEFT, RIGHT, TOP, BOTTOM = 82, 40, 40, 54
COLOURS = 6
"""How many series the style sheet can tell apart, by colour and by the pattern of the line."""
SHADES = 5
"""How many parts of one whole: by shades, so that no part is taken for a backend."""
Key = Literal["line", "dots", "part"]
KEY_WIDTH, KEY_HEIGHT = 26, 8


class Box(NamedTuple):
    """Where the plot's own area lies."""

    left: float = LEFT
    top: float = TOP
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM


def element(name: str, inside: Sequence[str] = (), /, **attributes: str | float) -> str:
    """One element; attribute `class_` is class, and `_` stands for `-`."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{_text(value)}"' for key, value in attributes.items())
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """A word on the paper."""
    return element("text", [escape(content)], x=x, y=y, **attributes)


def key(kind: Key, number: int) -> str:
    """What stands before a name in a legend: drawn as the plot draws it."""
    if kind == "part":
        return element("rect", x=0, y=0, width=KEY_WIDTH, height=KEY_HEIGHT, class_=f"part p{number % SHADES}")
    colour = f"s{number % COLOURS}"
    if kind == "dots":
        return element("circle", cx=KEY_WIDTH / 2, cy=KEY_HEIGHT / 2, r=3.5, class_=f"dots {colour}")
    return element("path", d=f"M0 {KEY_HEIGHT // 2}H{KEY_WIDTH}", class_=f"line {colour}")


def drawing(label: str, inside: Sequence[str], height: float = HEIGHT) -> str:
    """The whole plot; `label` is what a screen reader says."""
    return element("svg", inside, viewBox=f"0 0 {WIDTH} {_text(height)}", role="img", aria_label=label)


def axes(box: Box, x: Scale, y: Scale, x_title: str, y_title: str) -> list[str]:
    """Ruled lines, labels and titles."""
    parts = [
        element("path", d=_rules(box, x, y), class_="rule"),
        *(text(tick.label, tick.at, box.bottom + 19, class_=_tick("x", minor=tick.minor)) for tick in x.ticks()),
        *(text(tick.label, box.left - 8, tick.at, class_=_tick("y", minor=tick.minor)) for tick in y.ticks()),
        text(x_title, (box.left + box.right) / 2, box.bottom + 45, class_="axis"),
    ]
    # Upright, above the axis: a turned title is read by nobody and runs into the labels where letters are large.
    return [*parts, text(y_title, 2, box.top - 22, class_="axis first")]


def place(value: float) -> str:
    """A coordinate, no more exact than can be seen."""
    return f"{value:.1f}".removesuffix(".0")


def _rules(box: Box, x: Scale, y: Scale) -> str:
    upright = [f"M{place(tick.at)} {place(box.top)}V{place(box.bottom)}" for tick in x.ticks()]
    level = [f"M{place(box.left)} {place(tick.at)}H{place(box.right)}" for tick in y.ticks()]
    return "".join([*upright, *level])


def _tick(axis: str, *, minor: bool) -> str:
    return f"tick {axis} minor" if minor else f"tick {axis}"


def _text(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else place(value)
