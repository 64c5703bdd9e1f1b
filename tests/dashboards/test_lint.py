"""The rules of Grafana's dashboard-linter, each under its name there, held against what is committed."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards import render
from dashboards.preview.asking import filled

PAGES = {path.stem: json.loads(text) for path, text in render.files().items()}
SOURCE = "${datasource}"
VALID_UNITS = {"s", "cps", "binBps", "bytes", "short", "percentunit", "none"}
"""Of those that the linter takes, the ones that we use; `none` is a ratio's."""
SAMPLES = {"__rate_interval": "5m", "job": "a", "instance": "b", "backend": "c", "baseline": "d", "candidate": "e"}


@pytest.fixture(params=list(PAGES.values()), ids=list(PAGES))
def page(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.param
    return found


def variables(page: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in page["templating"]["list"]}


def panels(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def targets(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in panels(page):
        yield from panel["targets"]


def selectors(expr: str) -> list[tuple[str, str]]:
    """Each metric of a query with its matchers."""
    return re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr)


def test_template_datasource_rule(page: dict[str, Any]) -> None:
    """The data source is a variable, under the name and label that others use for it."""
    sources = [variable for variable in page["templating"]["list"] if variable["type"] == "datasource"]
    assert [(one["name"], one["label"], one["query"]) for one in sources] == [
        ("datasource", "Data source", "prometheus")
    ]


@pytest.mark.parametrize("name", ["job", "instance"])
def test_template_job_and_instance_rule(page: dict[str, Any], name: str) -> None:
    """Both are variables of that data source, several may be chosen, and all of them is a pattern."""
    variable = variables(page)[name]
    assert variable["type"] == "query"
    assert variable["datasource"]["uid"] == SOURCE
    assert variable["label"] == name.capitalize()
    assert variable["multi"]
    assert variable["allValue"] == ".+"


def test_template_label_promql_rule(page: dict[str, Any]) -> None:
    """A variable of labels asks for the values of a label, of series that it names."""
    for variable in variables(page).values():
        if variable["type"] == "query":
            assert re.fullmatch(r'label_values\(\{__name__=~"[^"]+"(, \w+=~"\$\w+")*\}, \w+\)', variable["query"])


def test_template_on_time_change_reload_rule(page: dict[str, Any]) -> None:
    """Processes that were there an hour ago can be chosen when that hour is looked at."""
    assert all(one["refresh"] == 2 for one in variables(page).values() if one["type"] == "query")


def test_panel_datasource_rule(page: dict[str, Any]) -> None:
    """Every panel and each of its queries ask the variable's data source."""
    for panel in panels(page):
        assert panel["datasource"]["uid"] == SOURCE
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {SOURCE}


def test_panel_title_description_rule(page: dict[str, Any]) -> None:
    """Every panel says what it is and how to read it, in a sentence."""
    for panel in panels(page):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]


def test_panel_units_rule(page: dict[str, Any]) -> None:
    """Every panel has a unit that Grafana knows."""
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels(page)} <= VALID_UNITS


def test_panel_no_targets_rule(page: dict[str, Any]) -> None:
    """Every panel asks something."""
    assert all(panel["targets"] for panel in panels(page))


def test_target_promql_rule(page: dict[str, Any], tmp_path: Path) -> None:
    """Every query is PromQL, annotations included: promtool takes each as a rule."""
    if not shutil.which("promtool"):
        complaint = "promtool is missing, so no query is parsed: `apt-get install prometheus`"
        pytest.fail(complaint) if os.environ.get("CI") == "true" else pytest.skip(complaint)
    queries = [one["expr"] for one in [*targets(page), *page["annotations"].get("list", [])]]
    rules = [{"record": f"query:{at}", "expr": filled(expr, SAMPLES)} for at, expr in enumerate(queries)]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "$" not in path.read_text()


def test_target_rate_interval_rule(page: dict[str, Any]) -> None:
    """Every rate looks back as far as Grafana says, and no shorter than two scrapes."""
    for target in targets(page):
        assert set(re.findall(r"\[([^\]]+)\]", target["expr"])) <= {"$__rate_interval"}


@pytest.mark.parametrize("name", ["job", "instance"])
def test_target_job_and_instance_rule(page: dict[str, Any], name: str) -> None:
    """Every selector of every query is narrowed to what was chosen."""
    for target in targets(page):
        assert selectors(target["expr"])
        assert all(f'{name}=~"${name}"' in matchers for _, matchers in selectors(target["expr"])), target["expr"]


def test_target_counter_agg_rule(page: dict[str, Any]) -> None:
    """Every counter, and every part of a histogram, is under a rate or an increase."""
    for target in targets(page):
        for name, _ in selectors(target["expr"]):
            if name.endswith(("_total", "_bucket", "_sum", "_count")):
                assert re.search(rf"(rate|increase)\({name}\{{[^}}]*\}}\[", target["expr"]) or name == ACTIVITY


ACTIVITY = "pg_stat_activity_count"
"""A gauge that ends as a counter does."""


def test_uneditable_dashboard_rule(page: dict[str, Any]) -> None:
    """The code is the only place to edit."""
    assert page["editable"] is False
