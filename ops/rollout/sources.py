"""Where figures come from: `/metrics` of every process, or the same series of a Prometheus that scrapes them."""

import json
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from ops.rollout.figures import NAMES, PROCESS, Scrape, Series
from ops.stack import ADDRESSES
from ops.usage import UsageError

PATIENCE_S = 5.0
PLAIN = {"Accept": "text/plain"}
STEMS = {name.removesuffix("_bucket") for name in NAMES}
STEM = re.compile(rf"(?:# TYPE )?(?:{'|'.join(STEMS)})(?:_bucket)?\b")
QUERY = '{{__name__=~"{names}"{selector}}}'


HOW_TO_SEE = "start what did not answer, or name with --metrics or --prometheus what does"


class SourceError(Exception):
    """Nothing is known of this moment; the message says who did not answer."""


Source = Callable[[], Scrape]
"""Gives what all processes have counted by now. Raises `SourceError` unless all of them could be read."""


def metrics_of(urls: Sequence[str]) -> Source:
    """Read every process's own `/metrics`."""

    def read() -> Scrape:
        with httpx2.Client(timeout=PATIENCE_S, headers=_headers()) as http, ThreadPoolExecutor(len(urls)) as threads:
            pages = list(threads.map(lambda url: _page(http, url), urls))
        return {series: value for url, page in zip(urls, pages, strict=True) for series, value in _parsed(url, page)}

    return read


def prometheus_at(url: str, selector: str = "") -> Source:
    """Ask a Prometheus for the newest sample of each process; both ends of an interval are as old as its scrapes."""
    query = QUERY.format(names="|".join(NAMES), selector=f",{selector}" if selector else "")

    def read() -> Scrape:
        try:
            response = httpx2.get(f"{url.rstrip('/')}/api/v1/query", params={"query": query}, timeout=PATIENCE_S)
            found = response.raise_for_status().json()["data"]["result"]
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError) as error:
            raise SourceError(f"Prometheus at {url} did not answer: {error}") from error
        if not found:
            raise SourceError(f"Prometheus at {url} has no series for {query}: does it scrape the APIs and workers?")
        return dict(_sample(each) for each in found)

    return read


def _headers() -> dict[str, str]:
    token = os.environ.get("STREAMGAUGE_METRICS_TOKEN")
    return PLAIN | ({"Authorization": f"Bearer {token}"} if token else {})


def _page(http: httpx2.Client, url: str) -> str:
    try:
        return http.get(url).raise_for_status().text
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceError(f"{url} did not answer: {error}") from error


def _parsed(url: str, page: str) -> list[tuple[Series, float]]:
    process = (PROCESS, url)
    return [
        (Series(sample.name, frozenset((*sample.labels.items(), process))), sample.value)
        for family in text_string_to_metric_families(_wanted(page))
        for sample in family.samples
        if sample.name in NAMES
    ]


def _wanted(page: str) -> str:
    """Leave the lines that matter, and their types, since parsing is slow."""
    return "\n".join(line for line in page.splitlines() if STEM.match(line)) + "\n"


def _sample(found: dict[str, Any]) -> tuple[Series, float]:
    labels = dict(found["metric"])
    return Series(labels.pop("__name__"), frozenset(labels.items())), float(found["value"][1])


def found_in(folder: Path) -> list[str]:
    """Give the metrics URLs of the stack that `streamgauge up` runs in this folder."""
    try:
        return list(map(str, json.loads((folder / ADDRESSES).read_text())["metrics"]))
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"No `streamgauge up` runs in {folder}, so say what to watch: --metrics URL for /metrics of each API and "
            "each worker, or --prometheus URL."
        ) from error
