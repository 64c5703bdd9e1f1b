"""The benchmarks' arithmetic: costs per delta and per stream, the search for the edge, and the verdict."""

from array import array
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from loadtest import host
from loadtest.bench import figures
from loadtest.bench.client import percentiles
from loadtest.bench.load import Found, Load, Point, judge
from loadtest.bench.post import PARTS
from loadtest.bench.session import Plan, Results
from loadtest.bench.tables import markdown

FOUND: dict[str, Any] = {
    "chunks": 500,
    "deltas": 1000,
    "deltas_per_s": 500.0,
    "streams_ended": 30,
    "unfinished": 0,
    "open_streams": 25,
    "delivery_latency_s": {
        "count": 1000, "below_zero": 0, "p50": 0.001, "p95": 0.002, "p99": 0.003, "p999": 0.004, "max": 0.005,
    },
    "post_s": {"count": 0, "below_zero": 0, "p50": None, "p95": None, "p99": None, "p999": None, "max": None},
    "cpu_s": {"client": 0.01, "worker": 0.04, "api": 0.02},
    "rss_before": {"worker": 1_000_000, "api": 2_000_000},
    "rss_after": {"worker": 1_000_000 + 25 * 4096, "api": 2_000_000 + 25 * 1024},
    "texts_checked": 20,
    "broken": 0,
    "first_broken": [],
    "began_ns": 0,
    "ended_ns": 2_000_000_000,
    "loop_lag_ns": [100_000] * 100,
}  # fmt: skip


def found(**changes: Any) -> Found:
    return msgspec.convert({**FOUND, **changes}, Found)


def point(streams: int = 25, system: str = "floor", **changes: Any) -> Point:
    return Point(system, Load(streams, 20.0, 2.0, 1.0), found(**changes), "VALID", [])


def latency(p99: float) -> dict[str, Any]:
    return {**FOUND["delivery_latency_s"], "p99": p99}


def test_cpu_per_delta_is_told_apart_by_process() -> None:
    """In microseconds; the sum leaves the load's own out; nothing without a delta; two that share a chunk are two."""
    assert figures.cpu_us(point()) == pytest.approx({"client": 10, "worker": 40, "api": 20})
    assert figures.system_cpu_us(point()) == pytest.approx(60)
    assert figures.system_cpu_us(point(deltas=0)) is None
    assert figures.coalesced(point()) == 2


def test_memory_of_a_stream_is_the_growth_over_those_open() -> None:
    """Not over those that were asked for; a kind that is not there has none."""
    assert figures.stream_bytes(point(streams=30), "worker") == 4096
    assert figures.stream_bytes(point(), "api") == 1024
    assert figures.stream_bytes(point(), "postgres") is None
    assert figures.stream_bytes(point(open_streams=0), "api") is None


def test_what_is_too_little_to_be_told_is_no_figure() -> None:
    """Ten ticks of processor time, and more pages than a process grows by for other reasons."""
    much = point(cpu_s={"api": 0.1}, rss_after={"api": 2_000_000 + (64 << 12)})
    assert figures.is_countable(much, "api")
    assert figures.has_grown(much, "api")
    assert not figures.is_countable(point(cpu_s={"api": 0.09}), "api")
    assert not figures.is_countable(much, "postgres")
    assert not figures.has_grown(point(), "api")
    assert not figures.has_grown(much, "postgres")


def test_a_spread_is_exact_and_has_no_tail_of_few_values() -> None:
    """The median, and the 95th percentile by nearest rank where there are twenty values."""
    assert figures.spread([3.0, 1.0, 2.0]) == figures.Spread(2.0, None)
    assert figures.spread([float(value) for value in range(100, 0, -1)]) == figures.Spread(50.5, 95.0)


def test_the_objective_wants_whole_streams_that_keep_up() -> None:
    """A low p99 of the few that came through is no success."""
    assert figures.holds(point())
    assert not figures.holds(point(delivery_latency_s=latency(0.051)))
    assert not figures.holds(point(broken=1))
    assert not figures.holds(point(unfinished=1))
    assert not figures.holds(point(deltas_per_s=400.0))


@pytest.mark.parametrize("edge", [17, 130, 480, 1000])
def test_the_search_brackets_the_edge_and_closes_in(edge: int) -> None:
    """Doubling or halving, then bisecting, to within a tenth; saturation is looked for beyond it."""

    def play(streams: int) -> Point:
        return point(
            streams, delivery_latency_s=latency(0.01 if streams <= edge else 0.2), deltas_per_s=min(streams, 900) * 20.0
        )

    capacity = figures.search(play, start=100, limit=6_400)
    assert capacity.failed is not None
    assert capacity.held <= edge < capacity.failed <= 1.1 * capacity.held + 2
    assert (capacity.saturated, capacity.deltas_per_s) == (True, 18_000)


def test_a_search_without_a_failure_says_so() -> None:
    """And one that fails at once held nothing."""
    whole = figures.search(lambda streams: point(streams, deltas_per_s=streams * 20.0), 100, 800)
    assert (whole.held, whole.failed, whole.saturated) == (800, None, False)
    none = figures.search(lambda streams: point(streams, deltas_per_s=0.0), 100, 800)
    assert (none.held, none.failed) == (0, 12)


def test_percentiles_are_exact_ranks() -> None:
    """Nearest rank, in seconds."""
    spread = percentiles(array("q", range(1_000_000, 101_000_000, 1_000_000)))
    assert (spread["p50"], spread["p99"], spread["max"]) == (0.05, 0.099, 0.1)
    assert percentiles(array("q"))["p50"] is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "VALID"),
        ({"loop_lag_ns": [20_000_000] * 100}, "GENERATOR-LIMITED"),
        ({"cpu_s": {"client": 1.9}}, "GENERATOR-LIMITED"),
        ({"unfinished": 3}, "CENSORED"),
    ],
)
def test_a_run_that_the_load_itself_limited_says_so(changes: dict[str, Any], expected: str) -> None:
    """By the rules of every other run."""
    at = host.HostSample(0, 0, 0, 0, 0, 0)
    assert judge("floor", found(**changes), [at, msgspec.structs.replace(at, at_ns=10**9)])[0] == expected


def test_the_report_sets_every_system_beside_the_floor_and_the_reference() -> None:
    """With the machine, the date and what speaks against a figure."""
    points = [point(), point(system="any"), point(system="reference", broken=2, first_broken=["index 2 came"])]
    capacity = figures.search(lambda streams: point(streams, deltas_per_s=streams * 20.0), 100, 800)
    results = Results(
        made_at="2026-01-02T03:04:05+00:00",
        machine=host.machine(),
        plan=Plan((25,), 20.0, 2.0, 25, search=800, polling_interval_s=0.1),
        systems=["floor", "any", "polling", "reference"],
        idle=points,
        levels=[points],
        capacity={"floor": capacity, "any": capacity},
        begins={"any": dict.fromkeys(PARTS, figures.Spread(4.567, None))},
    )
    text = markdown(results, "floor", "reference")
    assert text.startswith("## 2026-01-02 · `streamgauge perf`")
    assert f"{results.machine['cores']} cores" in text
    rows = [line for line in text.splitlines() if line.startswith("| any")]
    assert len(rows) == 4
    assert rows[0] == "| any | 4.57 / – | 4.57 / – | 4.57 / – | 4.57 / – |"
    assert "| 60.0 | 1× | 1× | VALID |" in rows[1]
    assert "`polling` looks every 100 ms" in text
    assert "- reference, 25 × 20/s: 2 streams broke: index 2 came" in text
    assert all(line.count("|") == before.count("|") for before, line in _table_lines(text))


def _table_lines(text: str) -> list[tuple[str, str]]:
    return [pair for pair in pairwise(text.splitlines()) if all(line.startswith("|") for line in pair)]
