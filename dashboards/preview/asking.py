"""Asks a Prometheus what a page's panels show, as Grafana would: with the variables filled in, over a range of time."""

import json
import math
import re
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

POINTS = 90
RATE_INTERVAL = "30s"
ALL = ".+"


class Curve(NamedTuple):
    """One series: its legend and its values, one for each instant asked for, or None."""

    name: str
    values: list[float | None]


class Prometheus:
    """One server, and the minutes before `end_s` of what it knows."""

    def __init__(self, url: str, end_s: float, minutes: float) -> None:
        self._url, self.end_s = url.rstrip("/"), end_s
        self.start_s = end_s - 60 * minutes
        self.step_s = (self.end_s - self.start_s) / POINTS

    def values_of(self, label: str) -> list[str]:
        """Every value of a label, as the variable that chooses from them has."""
        return [str(value) for value in self._get(f"label/{label}/values", {})]

    def curves(self, expr: str, legend: str, variables: dict[str, str], step_s: float | None = None) -> list[Curve]:
        """What a panel's query gives, named as its legend says."""
        step_s = step_s or self.step_s
        query = {"query": filled(expr, variables), "start": self.start_s, "end": self.end_s, "step": step_s}
        count = round((self.end_s - self.start_s) / step_s) + 1
        found = []
        for series in self._get("query_range", query)["result"]:
            values: list[float | None] = [None] * count
            for at_s, text in series["values"]:
                place = round((at_s - self.start_s) / step_s)
                values[min(place, count - 1)] = float(text) if math.isfinite(float(text)) else None
            found.append(Curve(named(legend, series["metric"], variables), values))
        return sorted(found, key=lambda curve: curve.name)

    def _get(self, path: str, query: dict[str, Any]) -> Any:
        try:
            with urlopen(f"{self._url}/api/v1/{path}?{urlencode(query)}", timeout=30) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except HTTPError as error:
            raise ValueError(f"Prometheus refuses {query.get('query', path)!r}: {error.read().decode()}") from error


def filled(expr: str, variables: dict[str, str]) -> str:
    """The expression with the variables' values."""
    for name in sorted(variables, key=len, reverse=True):
        expr = expr.replace(f"${name}", variables[name])
    return expr


def named(legend: str, labels: dict[str, str], variables: dict[str, str]) -> str:
    """The legend with the labels' values."""
    return filled(re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), legend), variables)
