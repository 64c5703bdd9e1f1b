"""The dashboards: what is committed is what the code makes, and no metric is on none of them, or only there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram, Info
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry import metrics
from dashboards import load, render
from dashboards.promql import name_of
from loadtest.clock import Offset
from loadtest.exposition import Exposition
from ops.rollout.exposition import METRICS as GUARDS

PAGES = {path.stem: json.loads(text) for path, text in render.files().items()}
UIDS = {page["uid"] for page in PAGES.values()}
ELSEWHERE = {"process_cpu_seconds_total"}
"""Series of the client library itself."""
SERVERS = re.compile("(redis|pg)_")
"""Series of the exporters: whether they exist, theirs tell when they run."""


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


CLIENT = {
    name
    for family in Exposition(Offset(same_host=True, offset_ns=0, bound_ns=0), ()).collect()
    for name in [*({f"{family.name}_total"} if family.type == "counter" else {family.name, f"{family.name}_bucket"})]
}
"""What `streamgauge bench --metrics-port` serves."""


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
def test_a_pages_panels_are_numbered_once(page: dict[str, Any]) -> None:
    """Links to a panel stay valid."""
    numbers = [panel["id"] for panel in page["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert page["title"]
    assert page["description"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_link_takes_along_only_what_means_the_same_there(page: dict[str, Any]) -> None:
    """A job of the app's is none of an exporter's: a page that were given it would be empty."""
    tags = {other["uid"]: other["tags"] for other in PAGES.values()}
    (target,) = {
        re.match(r"/d/([\w-]+)\?", link["url"])[1]  # type: ignore[index]
        for panel in page["panels"]
        if panel["type"] != "row"
        for link in panel["fieldConfig"]["defaults"]["links"]
    }
    taken = "job:queryparam" in json.dumps(page["panels"])
    assert taken == (page["tags"] == ["streamgauge"])
    assert not taken or tags[target] == page["tags"]
    for link in page["links"]:
        assert not link["includeVars"] or link["tags"] == page["tags"]


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
def test_a_click_on_a_panel_leads_to_a_page_that_exists(panel: dict[str, Any]) -> None:
    """From every panel there is a way on, at the same time."""
    links = [
        re.match(r"/d/([\w-]+)\?\$\{__url_time_range\}", link["url"])
        for link in panel["fieldConfig"]["defaults"]["links"]
    ]
    assert links
    assert {link[1] for link in links if link} <= UIDS


@pytest.mark.parametrize("panel", list(panels()))
def test_a_query_asks_for_metrics_that_exist(panel: dict[str, Any]) -> None:
    """In the app's code, in the load generator's, in the guard's, or in an exporter."""
    for target in panel["targets"]:
        for name, _ in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", target["expr"]):
            assert name in EXPOSED | CLIENT | GUARDS or SERVERS.match(name), f"{name} is no metric of ours"


def test_every_latency_has_its_heatmap_or_its_exemplars() -> None:
    """From a latency that carries exemplars there is a way to a trace; each page about latency has a heatmap."""
    carrying = ("publish", "delivery", "queue_wait", "model_ttft", "first_token")
    for name in ("overview", "comparison", "load"):
        assert "heatmap" in {panel["type"] for panel in PAGES[name]["panels"]}
    for name in carrying:
        asked = [
            target["exemplar"]
            for page in PAGES.values()
            for panel in page["panels"]
            for target in panel.get("targets", [])
            if f"streamgauge_{name}_seconds_bucket" in target["expr"]
        ]
        assert any(asked), name


def test_every_metric_is_on_a_page() -> None:
    """What is measured is shown; a metric that nobody looks at is a cost."""
    shown = "".join(render.files().values())
    assert [name_of(metric) for metric in METRICS if name_of(metric) not in shown] == []


def test_every_metric_of_the_load_generator_is_on_its_page() -> None:
    """The page names them by itself, as it may not import them."""
    shown = render.render(load.BOARD)
    families = Exposition(Offset(same_host=True, offset_ns=0, bound_ns=0), ()).collect()
    assert [family.name for family in families if family.name not in shown] == []
