"""The dashboards: what is committed is what the code makes, and keeps the rules of Grafana's dashboard-linter."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry import metrics
from dashboards import render
from dashboards.promql import name_of

PAGES = {path.stem: json.loads(text) for path, text in render.files().items()}
UIDS = {page["uid"] for page in PAGES.values()}
ELSEWHERE = {"process_cpu_seconds_total"}
"""Series of the client library itself."""


def panels() -> Iterator[Any]:
    """Every panel of every page, as a test parameter."""
    for name, page in PAGES.items():
        for panel in page["panels"]:
            if panel["type"] != "row":
                yield pytest.param(panel, id=f"{name}: {panel['title']}")


def series(metric: MetricWrapperBase) -> set[str]:
    """The names under which a metric is exposed."""
    match metric:
        case Counter():
            return {f"{name_of(metric)}_total"}
        case Histogram():
            return {f"{name_of(metric)}_{part}" for part in ("bucket", "sum", "count")}
        case Gauge():
            return {name_of(metric)}
        case Info():
            return {f"{name_of(metric)}_info"}
    raise AssertionError(f"{metric} is of no kind that dashboards use")


METRICS = [value for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram | Info)]
EXPOSED = set().union(*(series(metric) for metric in METRICS)) | ELSEWHERE


def test_the_committed_json_is_what_the_code_makes() -> None:
    """`render --check`: nobody edits the JSON by hand, and nobody forgets to render it."""
    assert render.stale(render.files()) == []


def test_a_file_that_differs_or_belongs_to_no_page_is_stale() -> None:
    """The check names the file, also one that a removed page left behind."""
    wanted = render.files()
    first = next(iter(wanted))
    assert render.stale(wanted | {first: "{}"}) == [first.name]
    assert render.stale({path: text for path, text in wanted.items() if path != first}) == [first.name]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_is_read_only_and_its_panels_are_numbered_once(page: dict[str, Any]) -> None:
    """The code is the only place to edit; links to a panel stay valid."""
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert page["editable"] is False
    assert page["title"]
    assert page["description"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_chooses_its_data_source_and_processes_by_variables(page: dict[str, Any]) -> None:
    """And backends; the labels are read again whenever the time range changes."""
    variables = {variable["name"]: variable for variable in page["templating"]["list"]}
    assert {"datasource", "job", "instance", "backend"} <= set(variables)
    for name in ("job", "instance", "backend"):
        assert variables[name]["refresh"] == 2
        assert variables[name]["multi"]
        assert variables[name]["allValue"] == ".+"


def test_what_backends_are_held_against_is_a_variable_too() -> None:
    """Polling until the reader chooses another one, and only one at a time."""
    variables = {variable["name"]: variable for variable in PAGES["comparison"]["templating"]["list"]}
    baseline = variables["baseline"]
    assert baseline["current"]["value"] == "polling"
    assert not baseline.get("multi")
    assert baseline["query"] == variables["backend"]["query"]


@pytest.mark.parametrize("panel", list(panels()))
def test_a_new_backend_shows_by_itself(panel: dict[str, Any]) -> None:
    """No query names one: where series are told apart by backend, the variable chooses; a heatmap is drawn for each."""
    for target in panel["targets"]:
        assert not re.search(r'backend(=|!=|=~|!~)"(?!\$)', target["expr"])
        if re.search(r"by \([^)]*backend", target["expr"]):
            assert 'backend=~"$backend"' in target["expr"]
    if panel["type"] == "heatmap":
        assert (panel["repeat"], panel["gridPos"]["w"]) == ("backend", 24)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_panels_fill_the_page_without_overlapping(page: dict[str, Any]) -> None:
    """No two panels share a cell of the grid, and none leaves its 24 columns."""
    taken = set[tuple[int, int]]()
    for panel in page["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


@pytest.mark.parametrize("panel", list(panels()))
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    """Title, description and unit, the data source by variable, and a link that leads to a page that exists."""
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    links = [re.match(r"/d/([\w-]+)\?", link["url"]) for link in defaults["links"]]
    assert links
    assert {link[1] for link in links if link} <= UIDS


@pytest.mark.parametrize("panel", list(panels()))
def test_a_query_asks_for_the_chosen_processes_and_for_metrics_that_exist(panel: dict[str, Any]) -> None:
    """Every selector has both variables and a metric of the code; every counter is under a rate."""
    assert panel["targets"]
    for target in panel["targets"]:
        expr = target["expr"]
        assert target["datasource"]["uid"] == "${datasource}"
        selectors = re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr)
        assert selectors
        for name, labels in selectors:
            assert name in EXPOSED, f"{name} is no metric of the app"
            assert 'job=~"$job"' in labels
            assert 'instance=~"$instance"' in labels
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert re.search(rf"(rate|increase)\({name}\{{[^}}]*\}}\[\$__rate_interval\]\)", expr), expr


def test_every_metric_is_on_a_page() -> None:
    """What is measured is shown; a metric that nobody looks at is a cost."""
    shown = "".join(render.files().values())
    assert [name_of(metric) for metric in METRICS if name_of(metric) not in shown] == []
