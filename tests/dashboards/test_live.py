"""Every panel's query, asked of a real Prometheus that scrapes the real system under load, from both sides."""

import asyncio
import io
import json
import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import httpx2
import pytest
from rich.console import Console

from app.streaming.backends import NAMES
from app.telemetry.metrics import LATENCY_BUCKETS
from dashboards import comparison, render
from dashboards.preview import page
from dashboards.preview.asking import Prometheus, filled
from loadtest import recorder, summary
from loadtest.clock import Offset
from loadtest.options import BenchOptions
from loadtest.run import run_bench
from loadtest.stats import Distribution
from ops.ports import free_port
from ops.rollout.exposition import exposed
from ops.stack import Stack, StackOptions, running_stack
from ops.trace_view import read_trace
from tests.ops.rollout_parts import World
from tests.support.client import Client
from tests.support.prometheus import VARIABLES, Shown, ask, needs, numbers, queries
from tests.support.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]
LOAD_S = 60
"""At most; it ends as soon as every query has data that should."""
FAULTY = "ttft=0.01&gap=0.02&chunks=20&fault=cut&at=3"
HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
EMPTY_IN_HEALTH = {
    ("Messages refused, by dependency", ""): "a server must be away",
    ("Fenced, repeated, reaped", "fenced, "): "a worker must be thought dead",
    ("Fenced, repeated, reaped", "repeated append, "): "a reply of the store must be lost",
    ("Fenced, repeated, reaped", "reaped, "): "a worker must be dead",
    ("Repaired", ""): "a message must wait in vain",
    ("Memory", "allowed, "): "a limit must be set",
    ("Cut off and refused", "cut off"): "redis_exporter must be of 1.64 or later, and Debian's is of 1.45",
}
"""Queries, by panel and legend, whose series begin with what feeds them: test_faults.py does, but for the last."""


class Observed(NamedTuple):
    """A stack with Prometheus after a bench and some seconds of load, and what was known when the bench ended."""

    stack: Stack
    rows: list[recorder.StreamRow]
    quantiles: dict[tuple[str, str, float], float]
    """By whose side, backend and fraction, of all that the bench did."""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """First a bench alone, so that both sides saw the same streams; then load with faults, resumes and all backends.

    A rollout's record, made in memory, is served beside it.
    """
    needs("prometheus", "prometheus-redis-exporter", "prometheus-postgres-exporter")
    folder, port, guard_port = tmp_path_factory.mktemp("observed"), free_port(), free_port()
    options = StackOptions(
        folder,
        port=0,
        traces=True,
        observe=True,
        bench_metrics_port=port,
        rollout_metrics_port=guard_port,
        environment=dict(os.environ),
    )
    guarded = World(folder / "rollout")
    guarded.run(guarded.state())
    with running_stack(options) as stack, exposed(guarded.journal, guard_port):
        bench = BenchOptions(
            quick=True, num_conversations=6, quartets_at_most=1, out=folder / "results", seed=1, metrics_port=port
        )
        quantiles: dict[tuple[str, str, float], float] = {}
        results = run_bench(bench, stack.api_url, stack.database_url, stack.redis_url, Console(file=io.StringIO()))
        for key in [(side, name, share) for side in SIDES for name in bench.backends for share in (0.5, 0.95)]:
            side, name, share = key
            metric = f'{SIDES[side]}_delivery_seconds_bucket{{backend="{name}"}}'
            (quantiles[key],) = numbers(
                stack, f"histogram_quantile({share}, sum by (le) (last_over_time({metric}[5m])))"
            )
        asyncio.run(load(stack))
        yield Observed(stack, recorder.read_streams(results / "streams.jsonl"), quantiles)


SIDES = {"client": "loadtest", "server": "streamgauge"}


def has_data(stack: Stack, shown: Shown) -> bool:
    """Now, or in the bench's time."""
    return bool(numbers(stack, shown.expr) or numbers(stack, f"last_over_time(({shown.expr})[90s:5s])"))


async def load(stack: Stack) -> None:
    """Ask through every backend until it is shown; one viewer in each round resumes, one model fails."""
    async with httpx2.AsyncClient(base_url=stack.api_url, timeout=30) as http:
        client = Client(http)

        async def talk(backend: str, script: str) -> None:
            posted = await client.post(script, backend)
            await client.whole(posted.task_id)
            await client.whole(posted.task_id, **{"Last-Event-ID": "1"})

        missing = [shown for shown in queries() if (shown.panel, shown.legend) not in EMPTY_IN_HEALTH]
        end = time.monotonic() + LOAD_S
        while missing and time.monotonic() < end:
            scripts = ("ttft=0.05&gap=0.02&chunks=30", FAULTY)
            await asyncio.gather(*(talk(backend, script) for backend in NAMES for script in scripts))
            missing = await asyncio.to_thread(
                lambda left: [each for each in left if not has_data(stack, each)], missing
            )


def test_every_query_has_data(observed: Observed) -> None:
    """Each gives a number, except those that are listed with what must happen first; the bench's are of its time."""
    found = {(shown.panel, shown.legend): shown.expr for shown in queries()}
    assert EMPTY_IN_HEALTH.keys() <= found.keys()
    empty = {(shown.panel, shown.legend): shown.expr for shown in queries() if not has_data(observed.stack, shown)}
    assert empty.keys() == EMPTY_IN_HEALTH.keys(), {
        key: empty.get(key) for key in empty.keys() ^ EMPTY_IN_HEALTH.keys()
    }


def test_every_other_backend_has_its_ratio(observed: Observed) -> None:
    """The baseline's latency divided by each one's, under that one's name."""
    made = json.loads(render.render(comparison.BOARD))
    (expr,) = (
        target["expr"] for panel in made["panels"] if panel["title"].startswith("p50") for target in panel["targets"]
    )

    def compared() -> set[str]:
        results = ask(observed.stack, "query", query=filled(expr, VARIABLES))["result"]
        return {sample["metric"]["backend"] for sample in results}

    until(lambda: compared() == set(NAMES) - {VARIABLES["baseline"]}, "each has been scraped twice")


def test_every_process_is_scraped_and_every_rule_is_evaluated(observed: Observed) -> None:
    """Targets are up, the bench's only while it runs; no rule of ours has an error, and each recorded one has data."""
    targets = ask(observed.stack, "targets")["activeTargets"]
    assert sorted((target["labels"]["job"], target["health"]) for target in targets) == [
        ("loadtest", "down"),
        ("postgres", "up"),
        ("redis", "up"),
        ("rollout", "up"),
        ("streamgauge-api", "up"),
        ("streamgauge-worker", "up"),
    ]
    rules = [rule for group in ask(observed.stack, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 30
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    until(
        lambda: all(numbers(observed.stack, name) for name in recorded),
        "every recording rule has been evaluated with data",
    )


@pytest.mark.parametrize("share", [0.5, 0.95])
@pytest.mark.parametrize("backend", ["polling", "pubsub"])
def test_prometheus_and_the_recorder_agree(observed: Observed, backend: str, share: float) -> None:
    """The client's own metrics within a bucket, and the server's too, but for the way from its socket to the client."""
    rows = [row for row in observed.rows if row.backend == backend]
    exact = Distribution(value for row in rows for value in summary.deliveries_ns(row, HERE)).percentile_s(100 * share)
    assert exact is not None
    client, server = (observed.quantiles[side, backend, share] for side in SIDES)
    assert abs(bucket(client) - bucket(exact)) <= 1, (client, exact)
    assert bucket(server) - bucket(exact) <= 1, (server, exact)
    assert bucket(exact - WAY_S[share]) - bucket(server) <= 1, (server, exact)


WAY_S = {0.5: 0.003, 0.95: 0.03}
"""Of a chunk from the server's socket to the client's parser, on one machine that is busy with both and other tests."""


def bucket(value_s: float) -> int:
    return bisect_left(LATENCY_BUCKETS, value_s)


def test_an_exemplar_leads_to_a_trace_that_exists(observed: Observed) -> None:
    """From a point on a latency panel to where that message's time went."""
    now = time.time()
    query = "streamgauge_delivery_seconds_bucket"
    found = ask(observed.stack, "query_exemplars", query=query, start=str(now - 300), end=str(now))
    ids = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert ids
    missing = {UUID(trace_id) for trace_id in ids}

    def all_are_there() -> bool:
        """Spans leave their process in batches, so the newest may be on the way."""
        traces = Path(observed.stack.traces)
        missing.difference_update({task_id for task_id in missing if read_trace(traces, task_id)})
        return not missing

    until(all_are_there, "every exemplar's trace is written")


def test_every_page_can_be_drawn(observed: Observed) -> None:
    """`python -m dashboards.preview`: each panel in its place, each page small enough for the documents."""
    prometheus = Prometheus(observed.stack.prometheus_url, time.time(), minutes=2)
    for text in render.files().values():
        made = json.loads(text)
        drawn = page.draw(made, prometheus)
        assert "A preview of ours" in drawn
        assert len(drawn) < 200_000
        shown = [panel for panel in made["panels"] if panel["type"] != "row"]
        repeated = sum(len(NAMES) - 1 for panel in shown if panel.get("repeat"))
        assert drawn.count('class="title"') == len(shown) + repeated
