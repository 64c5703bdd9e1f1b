"""Every panel's query, asked of a real Prometheus that scrapes the real system under load."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen
from uuid import UUID

import httpx2
import pytest

from app.streaming.backends import NAMES
from dashboards import comparison, render
from ops.stack import Stack, StackOptions, running_stack
from ops.trace_view import read_trace
from tests.support.client import Client
from tests.support.waiting import until

LOAD_S = 12
VARIABLES = {"__rate_interval": "30s", "job": ".+", "instance": ".+", "backend": ".+", "baseline": "polling"}
NEEDS_TROUBLE = {
    "Messages refused, by dependency": "a server must be away",
    "Fenced, repeated, reaped": "a worker must be lost, or a reply of the store",
    "Repaired": "a message must wait in vain",
}
"""Panels whose series begin with the fault that feeds them."""
FAULTY = "ttft=0.01&gap=0.02&chunks=20&fault=cut&at=3"


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with Prometheus after some seconds of load through every backend, with faults and resumes."""
    if not shutil.which("prometheus"):
        complaint = "prometheus is missing, so no panel is tried: `apt-get install prometheus`"
        pytest.fail(complaint) if os.environ.get("CI") == "true" else pytest.skip(complaint)
    folder = tmp_path_factory.mktemp("observed")
    options = StackOptions(folder, port=0, traces=True, observe=True, environment=dict(os.environ))
    with running_stack(options) as stack:
        asyncio.run(load(stack.api_url))
        yield stack


async def load(url: str) -> None:
    """Ask through every backend for a while; one viewer in each round resumes, one model fails."""
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        client = Client(http)

        async def ask(backend: str, script: str) -> None:
            posted = await client.post(script, backend)
            await client.whole(posted.task_id)
            await client.whole(posted.task_id, **{"Last-Event-ID": "1"})

        until = time.monotonic() + LOAD_S
        while time.monotonic() < until:
            scripts = ("ttft=0.05&gap=0.02&chunks=30", FAULTY)
            await asyncio.gather(*(ask(backend, script) for backend in NAMES for script in scripts))


def ask(stack: Stack, path: str, **query: str) -> Any:
    with urlopen(f"{stack.prometheus_url}/api/v1/{path}?{urlencode(query)}", timeout=10) as response:
        return json.load(response)["data"]


def test_every_panel_has_data(observed: Stack) -> None:
    """Each query parses and gives a number, except where a fault must feed it; those are listed with the reason."""
    empty = dict[str, str]()
    for text in render.files().values():
        for panel in json.loads(text)["panels"]:
            for target in panel.get("targets", []):
                expr = target["expr"]
                for name, value in VARIABLES.items():
                    expr = expr.replace(f"${name}", value)
                values = [sample["value"][1] for sample in ask(observed, "query", query=expr)["result"]]
                if not values or set(values) == {"NaN"}:
                    empty[panel["title"]] = expr
    assert empty.keys() <= NEEDS_TROUBLE.keys(), empty


def test_every_other_backend_has_its_ratio(observed: Stack) -> None:
    """The baseline's latency divided by each one's, under that one's name."""
    page = json.loads(render.render(comparison.BOARD))
    (expr,) = (
        target["expr"] for panel in page["panels"] if panel["title"].startswith("p50") for target in panel["targets"]
    )
    for name, value in VARIABLES.items():
        expr = expr.replace(f"${name}", value)
    found = {sample["metric"]["backend"] for sample in ask(observed, "query", query=expr)["result"]}
    assert found == set(NAMES) - {VARIABLES["baseline"]}


def test_every_process_is_scraped_and_every_rule_is_evaluated(observed: Stack) -> None:
    """Targets are up, and no rule of ours has an error."""
    targets = ask(observed, "targets")["activeTargets"]
    assert sorted((target["labels"]["job"], target["health"]) for target in targets) == [
        ("streamgauge-api", "up"),
        ("streamgauge-worker", "up"),
    ]
    rules = [rule for group in ask(observed, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_an_exemplar_leads_to_a_trace_that_exists(observed: Stack) -> None:
    """From a point on a latency panel to where that message's time went."""
    now = time.time()
    query = "streamgauge_delivery_seconds_bucket"
    found = ask(observed, "query_exemplars", query=query, start=str(now - 300), end=str(now))
    ids = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert ids
    missing = {UUID(trace_id) for trace_id in ids}

    def all_are_there() -> bool:
        """Spans leave their process in batches, so the newest may be on the way."""
        missing.difference_update({task_id for task_id in missing if read_trace(Path(observed.traces), task_id)})
        return not missing

    until(all_are_there, "every exemplar's trace is written")
