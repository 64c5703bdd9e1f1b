"""Draws one panel: curves, a large number, or a heatmap."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from dashboards.preview.asking import Curve
from dashboards.preview.paper import COLOURS, Linear, Log, element, place, shown, text

LETTER = 6.1
"""How wide a letter of the legend is, more or less."""
MOST_NAMES = 14
DEPTHS = 6


class Box(NamedTuple):
    """A panel's place on the page."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height


def frame(box: Box, title: str) -> list[str]:
    """The panel's ground and title."""
    ground = element("rect", x=box.left, y=box.top, width=box.width, height=box.height, rx=4, class_="panel")
    most = int((box.width - 20) / (LETTER * 1.2))
    return [ground, text(_cut(title, most), box.left + 10, box.top + 19, class_="title")]


def lines(box: Box, panel: dict[str, Any], curves: Sequence[Curve], marks: Sequence[float]) -> list[str]:
    """Curves over time with their legend; `marks` are instants as shares of the width."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    curves = [curve for curve in curves if _newest(curve.values) is not None]
    if not curves:
        return [_nothing(box)]
    legend, height = _legend(box, unit, curves)
    plot = Box(box.left + 62, box.top + 32, box.width - 74, box.height - 32 - 14 - height)
    values = [value for curve in curves for value in curve.values if value is not None]
    is_log = panel["fieldConfig"]["defaults"].get("custom", {}).get("scaleDistribution", {}).get("type") == "log"
    of_bytes = unit in {"bytes", "binBps"}
    scale = Log(values, plot.bottom, plot.top) if is_log else Linear(values, plot.bottom, plot.top, of_bytes=of_bytes)
    parts = _axis(plot, [(scale.at(tick), shown(tick, unit)) for tick in scale.ticks()])
    rules = [f"M{place(plot.left + share * plot.width)} {place(plot.top)}V{place(plot.bottom)}" for share in marks]
    parts += [element("path", d="".join(rules), class_="mark")] if rules else []
    for index, curve in enumerate(curves):
        parts.append(element("path", d=_path(plot, scale, curve.values), class_="line", **_pen(index)))
    return [*parts, *legend]


def number(box: Box, panel: dict[str, Any], curves: Sequence[Curve]) -> list[str]:
    """The newest value of each series, large."""
    defaults = panel["fieldConfig"]["defaults"]
    limits = [step["value"] for step in defaults["thresholds"]["steps"] if step["value"] is not None]
    newest = [(curve.name, value) for curve in curves if (value := _newest(curve.values)) is not None]
    parts = []
    for index, (name, value) in enumerate(newest):
        middle = box.left + box.width * (index + 0.5) / len(newest)
        kind = "number bad" if limits and value >= limits[0] else "number"
        size = min(34.0, box.width / len(newest) / 5)
        parts.append(
            text(shown(value, defaults["unit"]), middle, box.top + box.height * 0.62, class_=kind, font_size=size)
        )
        if len(newest) > 1:
            short = _cut(name, int(box.width / len(newest) / LETTER))
            parts.append(text(short, middle, box.top + box.height * 0.62 + 22, class_="small middle"))
    return parts or [_nothing(box)]


def heat(box: Box, panel: dict[str, Any], curves: Sequence[Curve]) -> list[str]:
    """What came in each bucket, from cumulative ones; darker is more of that moment."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    edges = sorted((float(curve.name), curve.values) for curve in curves)
    counts = [
        _differences(lower, upper)
        for lower, upper in zip([None, *(v for _, v in edges)], (v for _, v in edges), strict=False)
    ]
    rows = [row for row, found in enumerate(counts) if any(found) and math.isfinite(edges[row][0])]
    if not rows:
        return [_nothing(box)]
    first, last = max(1, min(rows)), max(rows)
    plot = Box(box.left + 62, box.top + 32, box.width - 74, box.height - 32 - 24)
    scale = Log([edges[first - 1][0], edges[last][0]], plot.bottom, plot.top)
    parts = _axis(plot, [(scale.at(tick), shown(tick, unit)) for tick in scale.ticks()])
    most = [max((found[column] for found in counts), default=0) for column in range(len(counts[0]))]
    paths: dict[int, list[str]] = {}
    width = plot.width / len(most)
    for row in range(first, last + 1):
        low, high = scale.at(edges[row - 1][0]), scale.at(edges[row][0])
        for column, count in enumerate(counts[row]):
            if count:
                depth = max(1, round(DEPTHS * math.sqrt(count / most[column])))
                corner = f"M{place(plot.left + column * width)} {place(high)}"
                cell = f"{corner}h{place(width + 0.3)}v{place(low - high + 0.3)}h-{place(width + 0.3)}z"
                paths.setdefault(depth, []).append(cell)
    return [*parts, *(element("path", d="".join(paths[depth]), class_=f"d{depth}") for depth in sorted(paths))]


def _axis(plot: Box, ticks: Sequence[tuple[float, str]]) -> list[str]:
    rules = "".join(f"M{place(plot.left)} {place(at)}H{place(plot.right)}" for at, _ in ticks)
    words = [text(label, plot.left - 7, at + 4, class_="small end") for at, label in ticks]
    return [element("path", d=rules, class_="rule"), *words]


def _path(plot: Box, scale: Linear | Log, values: Sequence[float | None]) -> str:
    """The curve, interrupted where there is no value; a point that stands alone is a short stroke."""
    parts, pen_is_down = [], False
    for index, value in enumerate(values):
        if value is None:
            pen_is_down = False
            continue
        x, y = plot.left + index / (len(values) - 1) * plot.width, scale.at(value)
        alone = not pen_is_down and (index + 1 == len(values) or values[index + 1] is None)
        parts.append(f"{'L' if pen_is_down else 'M'}{place(x)} {place(y)}{'h2' if alone else ''}")
        pen_is_down = True
    return "".join(parts)


def _legend(box: Box, unit: str, curves: Sequence[Curve]) -> tuple[list[str], float]:
    """Names with their means, in as many lines as they need; gives its height too."""
    seen = [(curve.name, [value for value in curve.values if value is not None]) for curve in curves]
    words = [f"{name} {shown(statistics.fmean(values), unit)}" for name, values in seen]
    parts, x, line = [], box.left + 12, 0
    places = []
    for word in words[:MOST_NAMES]:
        width = 16 + len(word) * LETTER
        if x > box.left + 12 and x + width > box.right - 8:
            x, line = box.left + 12, line + 1
        places.append((x, line))
        x += width + 8
    height = 20 + 16 * line
    for index, ((x, line), word) in enumerate(zip(places, words, strict=False)):
        y = box.bottom - height + 16 * line + 8
        parts.append(element("path", d=f"M{place(x)} {place(y - 4)}h11", class_="line", **_pen(index)))
        parts.append(text(word, x + 14, y, class_="small"))
    return parts, height


def _pen(index: int) -> dict[str, str]:
    """A colour, and dashes once all of them are taken."""
    dashes = {"stroke_dasharray": "5 3"} if index >= len(COLOURS) else {}
    return {"stroke": COLOURS[index % len(COLOURS)], **dashes}


def _differences(lower: Sequence[float | None] | None, upper: Sequence[float | None]) -> list[float]:
    return [max(0.0, (high or 0) - ((lower[at] or 0) if lower else 0)) for at, high in enumerate(upper)]


def _newest(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _nothing(box: Box) -> str:
    return text("nothing happened", box.left + box.width / 2, box.top + box.height / 2 + 4, class_="small middle")


def _cut(title: str, most: int) -> str:
    return title if len(title) <= most else f"{title[: most - 1]}…"
