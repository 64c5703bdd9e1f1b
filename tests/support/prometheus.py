"""Asks the Prometheus of a running stack, in the words of the dashboards."""

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from dashboards import render
from dashboards.preview.asking import filled, named
from ops.stack import Stack

VARIABLES = {
    "__rate_interval": "30s",
    "job": ".+",
    "instance": ".+",
    "backend": ".+",
    "baseline": "polling",
    "candidate": "pubsub",
}


class Shown(NamedTuple):
    """One query of a panel: the panel's title, the curve's legend as it is written, and the query asked now."""

    panel: str
    legend: str
    expr: str


def needs(*programs: str) -> None:
    """Skip without these programs of Debian's; on a continuous integration server fail."""
    for program in programs:
        if not shutil.which(program):
            package = "prometheus" if program == "promtool" else program
            complaint = f"{program} is missing, so nothing is asked: `apt-get install {package}`"
            pytest.fail(complaint) if os.environ.get("CI") == "true" else pytest.skip(complaint)


def ask(stack: Stack, path: str, **query: str) -> Any:
    """One question of its API."""
    with urlopen(f"{stack.prometheus_url}/api/v1/{path}?{urlencode(query)}", timeout=10) as response:
        return json.load(response)["data"]


def numbers(stack: Stack, expr: str) -> list[float]:
    """What an expression gives now, without what is not a number."""
    found = [float(sample["value"][1]) for sample in ask(stack, "query", query=expr)["result"]]
    return [value for value in found if value == value]


def queries(*uids: str) -> Iterator[Shown]:
    """Every query of these pages, or of all."""
    for text in render.files().values():
        page = json.loads(text)
        if uids and page["uid"] not in uids:
            continue
        for panel in page["panels"]:
            for target in panel.get("targets", []):
                legend = named(target["legendFormat"], {}, VARIABLES)
                yield Shown(panel["title"], legend, filled(target["expr"], VARIABLES))
