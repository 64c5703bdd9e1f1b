"""How the values of each moment were spread: time across, the value up, the share of the moment as depth of colour."""

import math
from collections.abc import Sequence

from loadtest.plots.scales import Scale
from loadtest.plots.svg import COLOURS, Box, axes, drawing, element, place

DEPTHS = 8


def heatmap(
    label: str,
    scales: tuple[Scale, Scale],
    titles: tuple[str, str],
    edges: tuple[Sequence[float], Sequence[float]],
    cells: Sequence[Sequence[int]],
    colour: int,
) -> str:
    """`cells[column][row]` are counts, between the edges of that column and row. Each column is of its own total."""
    x, y = scales
    across, up = ([scale.at(edge) for edge in some] for scale, some in zip((x, y), edges, strict=True))
    paths: dict[int, list[str]] = {}
    for column, counts in enumerate(cells):
        for row, count in enumerate(counts):
            if count:
                # A gap of nothing between neighbours would show the paper through as a grid.
                width, height = across[column + 1] - across[column], up[row] - up[row + 1]
                corner = f"M{place(across[column])} {place(up[row + 1])}"
                cell = f"{corner}h{place(width + 0.3)}v{place(height + 0.3)}h{place(-width - 0.3)}z"
                paths.setdefault(_depth(count, sum(counts)), []).append(cell)
    drawn = [element("path", d="".join(paths[depth]), class_=f"d{depth}") for depth in sorted(paths)]
    group = element("g", drawn, class_=f"heat s{colour % COLOURS}") if drawn else ""
    return drawing(label, [*axes(Box(), x, y, *titles), group])


def _depth(count: int, total: int) -> int:
    """The square root lets one chunk in a thousand be seen: outliers are what one looks for here."""
    return max(1, min(DEPTHS, round(DEPTHS * math.sqrt(2 * count / total))))
