"""Draws a whole page of what `dashboards/generated/` holds, panel for panel in its place."""

from typing import Any

from dashboards.preview import drawing
from dashboards.preview.asking import ALL, RATE_INTERVAL, Prometheus
from dashboards.preview.drawing import Box
from dashboards.preview.paper import element, text

COLUMN, ROW, GAP, MARGIN, HEAD = 50, 27, 8, 12, 62
WIDTH = 24 * COLUMN + 2 * MARGIN
HEAT_COLUMNS = 45
LABEL = "A preview of ours: these panels' queries, asked of a Prometheus under load. Grafana draws them otherwise."
STYLE = """
svg{background:#f4f5f8;font-family:Inter,Helvetica,Arial,sans-serif}
.panel{fill:#fff;stroke:#dfe2e8}.title{font-size:13px;font-weight:600;fill:#24292f}
.head{font-size:19px;font-weight:600;fill:#24292f}.label{font-size:12px;fill:#5f6b7a}
.row{font-size:14px;font-weight:600;fill:#24292f}.small{font-size:11px;fill:#5f6b7a}
.end{text-anchor:end}.middle{text-anchor:middle}.rule{stroke:#e6e8ee;fill:none}
.mark{stroke:#e8590c;stroke-width:1.5;stroke-dasharray:4 3;fill:none}
.line{fill:none;stroke-width:1.6;stroke-linejoin:round}
.number{font-weight:600;fill:#2b8a3e;text-anchor:middle}.bad{fill:#c92a2a}
.d1{fill:#dbe7ff}.d2{fill:#b0ccff}.d3{fill:#7fa8f5}.d4{fill:#4f82e6}.d5{fill:#2558bd}.d6{fill:#123a86}
"""


def draw(page: dict[str, Any], prometheus: Prometheus) -> str:
    """Give the page as one SVG, under a label that says what it is."""
    variables = _variables(page)
    marks = _marks(page, prometheus, variables)
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in page["panels"])
    height = HEAD + bottom * ROW + MARGIN
    parts = [
        element("style", [STYLE.replace("\n", "")]),
        text(page["title"], MARGIN, 26, class_="head"),
        text(LABEL, MARGIN, 46, class_="label"),
    ]
    for panel in page["panels"]:
        parts += _panel(panel, prometheus, variables, marks)
    svg = element(
        "svg", parts, xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}", role="img",
        width=WIDTH, height=height, aria_label=f"{page['title']}. {LABEL}",
    )  # fmt: skip
    return f"{svg}\n"


def _panel(panel: dict[str, Any], prometheus: Prometheus, variables: dict[str, str], marks: list[float]) -> list[str]:
    at = panel["gridPos"]
    if panel["type"] == "row":
        return [text(panel["title"], MARGIN, HEAD + at["y"] * ROW + 19, class_="row")]
    box = Box(MARGIN + at["x"] * COLUMN, HEAD + at["y"] * ROW, at["w"] * COLUMN - GAP, at["h"] * ROW - GAP)
    if panel.get("repeat"):
        return _repeated(panel, prometheus, variables, box)
    curves = [
        curve
        for target in panel["targets"]
        for curve in prometheus.curves(target["expr"], target["legendFormat"], variables)
    ]
    drawn = drawing.number(box, panel, curves) if panel["type"] == "stat" else drawing.lines(box, panel, curves, marks)
    return [*drawing.frame(box, _titled(panel, variables)), *drawn]


def _repeated(panel: dict[str, Any], prometheus: Prometheus, variables: dict[str, str], box: Box) -> list[str]:
    """One heatmap for each backend, side by side in the place of the one."""
    values = prometheus.values_of(panel["repeat"])
    parts = []
    step_s = (prometheus.end_s - prometheus.start_s) / HEAT_COLUMNS
    for index, value in enumerate(values):
        width = (box.width + GAP) / len(values)
        one = Box(box.left + index * width, box.top, width - GAP, box.height)
        own = {**variables, panel["repeat"]: value}
        (target,) = panel["targets"]
        curves = prometheus.curves(target["expr"], target["legendFormat"], own, step_s)
        parts += [*drawing.frame(one, _titled(panel, own)), *drawing.heat(one, panel, curves)]
    return parts


def _variables(page: dict[str, Any]) -> dict[str, str]:
    """Everything that may be chosen is; what may be chosen one at a time is what the page begins with."""
    found = {"__rate_interval": RATE_INTERVAL}
    for variable in page["templating"]["list"]:
        if variable["type"] == "query":
            found[variable["name"]] = ALL if variable.get("multi") else variable["current"]["value"]
    return found


def _marks(page: dict[str, Any], prometheus: Prometheus, variables: dict[str, str]) -> list[float]:
    """The first instant of each stretch in which an annotation's expression gives something, as shares of the range."""
    found = []
    for annotation in page["annotations"].get("list", []):
        for curve in prometheus.curves(annotation["expr"], "", variables):
            values = curve.values
            starts = [
                at for at, value in enumerate(values) if value is not None and (at == 0 or values[at - 1] is None)
            ]
            found += [at / (len(values) - 1) for at in starts]
    return found


def _titled(panel: dict[str, Any], variables: dict[str, str]) -> str:
    title = str(panel["title"])
    for name in sorted(variables, key=len, reverse=True):
        title = title.replace(f"${name}", variables[name])
    return title
