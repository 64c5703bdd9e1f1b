"""The parts that every dashboard is made of: queries, panels, sections, and the page with its variables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from dashboards.promql import SELECTED

TAG, BESIDE = "streamgauge", "streamgauge-beside"
SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
ANY_SERIES = "streamgauge_.+"
WIDTH = 24
TALL = 8
"""Of curves, and of a number beside them."""
MARKED_EVERY = "60s"
"""How far apart Grafana looks for what to mark: an expression looks back as far."""
SECONDS, PER_SECOND, BYTES_PER_SECOND, BYTES = "s", "cps", "binBps", "bytes"
COUNT, SHARE, RATIO = "short", "percentunit", "none"
"""Grafana's names of the units we use; a ratio has none, and says so."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and the legend of its series."""

    expr: str
    legend: str = "{{backend}}"


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel, before it has its place and its number."""

    build: Any
    """The SDK's builder; it publishes no types that a checker could follow."""
    width: int


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Marks:
    """Instants to mark on every panel: those where the expression is above zero."""

    title: str
    expr: str


@dataclass(frozen=True, slots=True)
class Board:
    """One page. A click on a point of it leads to the page `leads_to` at the same time.

    The variables go along, unless this page is about others' processes: then those chosen here are not there.
    """

    uid: str
    title: str
    description: str
    leads_to: str
    sections: Sequence[Section]
    marks: Sequence[Marks] = field(default=())
    baseline: str = ""
    """What backends are held against until the reader chooses another; a page that compares none has none."""
    candidate: str = ""
    """The one that is held against it, where it is one alone."""
    series: str = ANY_SERIES
    """A pattern of the names of the series whose processes the reader may choose from."""
    by_backend: bool = True
    """Whether its series are told apart by backend."""

    @property
    def beside(self) -> bool:
        """Whether it is about processes that are not the app's, or not only."""
        return self.series != ANY_SERIES

    @property
    def chosen(self) -> tuple[str, ...]:
        """The variables that mean the same on the page that it leads to."""
        return ("datasource",) if self.beside else ("datasource", "job", "instance", "backend")


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    log: bool = False,
    exemplars: bool = False,
) -> Panel:
    """Draw curves over time; `log` for latencies of backends that are a factor of 100 apart."""
    panel = timeseries.Panel().fill_opacity(8).line_width(2).show_points(common_models.VisibilityMode.NEVER)
    if log:
        scale = common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LOG).log(10)
        panel = panel.scale_distribution(scale)
    legend = common.VizLegendOptions().display_mode(common_models.LegendDisplayMode.TABLE)
    panel = panel.legend(
        legend.placement(common_models.LegendPlacement.BOTTOM).calcs(["mean", "max"]).show_legend(True)
    )
    return _finish(panel, title, description, unit, queries, width, exemplars=exemplars)


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 4,
    height: int = 5,
    bad_from: float | None = None,
    doubt_from: float | None = None,
    named: bool = False,
) -> Panel:
    """Show the newest value large: orange from `doubt_from` on, red from `bad_from`; `named` where there are more."""
    steps = [models.Threshold(value=None, color="green")]
    if doubt_from is not None:
        steps.append(models.Threshold(value=doubt_from, color="orange"))
    if bad_from is not None:
        steps.append(models.Threshold(value=bad_from, color="red"))
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
    mode = common_models.BigValueTextMode.VALUE_AND_NAME if named else common_models.BigValueTextMode.AUTO
    panel = stat.Panel().thresholds(thresholds).graph_mode(common_models.BigValueGraphMode.AREA).text_mode(mode)
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"])
    return _finish(panel.reduce_options(reduce), title, description, unit, queries, width, height=height)


def heat(title: str, description: str, expr: str) -> Panel:
    """Draw how a latency is distributed over time, with exemplars that lead to traces: one panel for each backend."""
    color = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Turbo").steps(64)
    panel = heatmap.Panel().calculate(False).color(color).y_axis(heatmap.YAxisConfig().unit(SECONDS))
    # Grafana puts them side by side into the place of the one, so it has a whole line to itself.
    panel = panel.repeat("backend").repeat_direction("h").max_per_row(4)
    form = prometheus_models.PromQueryFormat.HEATMAP
    return _finish(panel, title, description, SECONDS, [Query(expr, "{{le}}")], WIDTH, form=form, exemplars=True)


def build(board: Board) -> Any:
    """Make the page: its variables, its sections, and a number for each panel in reading order."""
    page = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([BESIDE if board.beside else TAG])
        .readonly()
        .time("now-30m", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(_pages("streamgauge", TAG, keep=not board.beside))
        .link(_pages("Servers and load", BESIDE, keep=False))
    )
    for variable in _variables(board):
        page = page.with_variable(variable)
    for marks in board.marks:
        page = page.annotation(_annotation(marks))
    link = dashboard.DashboardLink("Open the next page at this time").url(
        f"/d/{board.leads_to}?${{__url_time_range}}" + "".join(f"&${{{name}:queryparam}}" for name in board.chosen)
    )
    next_id = 1
    for section in board.sections:
        page = page.with_row(dashboard.Row(section.title).id(next_id))
        for place, panel in enumerate(section.panels, next_id + 1):
            page = page.with_panel(panel.build.id(place).data_links([link]))
        next_id += len(section.panels) + 1
    return page.build()


def _finish(
    panel: Any,
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    width: int,
    *,
    height: int = TALL,
    form: Any = prometheus_models.PromQueryFormat.TIME_SERIES,
    exemplars: bool = False,
) -> Panel:
    panel = panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        panel = panel.with_target(target.datasource(SOURCE).format(form).exemplar(exemplars).range())
    return Panel(panel, width)


def _variables(board: Board) -> list[Any]:
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    every = f'__name__=~"{board.series}"'
    chosen = f"{every}, {SELECTED}"
    several = [("job", every), ("instance", f'{every}, job=~"$job"')]
    if board.by_backend:
        several.append(("backend", chosen))
    variables = [source, *(_several(_values(name, name, series)) for name, series in several)]
    for name, value in (("baseline", board.baseline), ("candidate", board.candidate)):
        if value:
            option = models.VariableOption(selected=True, text=value, value=value)
            variables.append(_values(name, "backend", chosen).current(option))
    return variables


def _values(name: str, label: str, series: str) -> Any:
    """Let the reader choose a value of this label."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({{{series}}}, {label})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _several(variable: Any) -> Any:
    every = models.VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(True).include_all(True).all_value(".+").current(every)


def _pages(title: str, tag: str, *, keep: bool) -> Any:
    """Lead to the pages with this tag; `keep` takes the variables along, where they mean the same there."""
    link = dashboard.DashboardLink(title).type(models.DashboardLinkType.DASHBOARDS).tags([tag])
    return link.as_dropdown(True).include_vars(keep).keep_time(True)


def _annotation(marks: Marks) -> Any:
    mark = dashboard.AnnotationQuery().name(marks.title).datasource(SOURCE).enable(True).icon_color("orange")
    return mark.expr(marks.expr).step(MARKED_EVERY).title_format(marks.title)
