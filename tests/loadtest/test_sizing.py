"""A plan is the measured cost times the load, rounded up, with everything beyond the measurement marked."""

import json
from typing import Any

import msgspec
import pytest

from loadtest import capacity, objective, sizing
from loadtest.bench.load import Found, Load, Point
from loadtest.bench.session import Plan, Results
from loadtest.sizing import GIB, Line, Sizing, SizingError, Systems, Wanted
from loadtest.sizing_report import markdown
from tests.loadtest.test_bench_figures import FOUND

# 20 µs a chunk in the API, 40 in the worker, 10 in Valkey, 5 in PostgreSQL, 10 in the load; 1 KiB and 4 KiB a stream.
COSTS = {"cpu_s": {"api": 0.02, "worker": 0.04, "valkey": 0.01, "postgres": 0.005, "client": 0.01}}


def point(streams: int, *, rate: float = 20.0, **changes: Any) -> Point:
    found = {**FOUND, **COSTS, "deltas_per_s": streams * rate, "open_streams": 25, **changes}
    return Point("any", Load(streams, rate, 2.0, 1.0), msgspec.convert(found, Found), "VALID", [])


def results(*levels: Point, idle: bool = True) -> Results:
    return Results(
        made_at="2026-01-02T03:04:05+00:00",
        machine={"cpu": "of the test"},
        plan=Plan((25,), 20.0, 2.0, 25, search=0),
        systems=["floor", "any", "reference"],
        idle=[point(25, rate=1.0)] if idle else [],
        levels=[[one] for one in levels],
        capacity={},
    )


def lines(wanted: Wanted, *levels: Point) -> dict[str, Line]:
    (plan,) = sizing.from_perf(results(*(levels or (point(100),))), wanted)
    return {line.kind: line for line in plan.lines}


def test_a_process_is_kept_at_the_stated_utilisation() -> None:
    """10,000 chunks/s × 20 µs is 0.2 cores of API, which one process at 60 % carries; ten times that takes four."""
    few, many = lines(Wanted(500, 20.0)), lines(Wanted(5000, 20.0))
    assert few["api"].cores == pytest.approx(0.2)
    assert few["api"].count == 1
    assert {kind: line.count for kind, line in many.items()} == {
        "api": 4, "worker": 7, "valkey": 3, "postgres": 1, "client": 2,
    }  # fmt: skip
    assert lines(Wanted(5000, 20.0, utilisation=0.3))["api"].count == 7


def test_memory_is_a_process_and_its_streams() -> None:
    """The young process once for each, and the growth for every open stream."""
    api = lines(Wanted(5000, 20.0))["api"]
    assert api.memory_bytes == 4 * 2_000_000 + 5000 * 1024


def test_viewers_cost_the_apis_alone() -> None:
    """The producer's side does not see them."""
    one, three = lines(Wanted(5000, 20.0)), lines(Wanted(5000, 20.0, viewers=3))
    assert three["api"].cores == pytest.approx(3 * one["api"].cores)
    assert three["worker"] == one["worker"]


def test_the_log_may_need_more_shards_than_the_processor() -> None:
    """It stays for its TTL after the stream: what decided is said."""
    wanted = Wanted(5000, 20.0, ttl_s=3600, shard_bytes=GIB)
    valkey = lines(wanted)["valkey"]
    log = 100_000 * 3620 * sizing.record_bytes(6)
    assert valkey.memory_bytes == pytest.approx(log)
    assert (valkey.count, valkey.decided_by) == (-(-log // GIB), "memory of the log")


def test_workers_are_as_many_as_their_limit_wants() -> None:
    """Slow streams fill a worker before they tire it."""
    worker = lines(Wanted(50_000, 0.1, worker_streams=2000))["worker"]
    assert (worker.count, worker.decided_by) == (25, "streams a worker may hold")


def test_what_lies_beyond_the_measurement_is_marked() -> None:
    """One process carried 2,000 chunks/s and 100 streams: more than that each is a guess."""
    assert lines(Wanted(100, 20.0))["api"].extrapolated is None
    api = lines(Wanted(5000, 20.0))["api"]
    assert api.extrapolated == "25,000 chunks/s each, 2,000 measured; 1,250 streams each, 100 measured"


def test_costs_are_those_of_the_nearest_level_that_kept_up() -> None:
    """By rate first, then the largest; a saturated or broken level is none."""
    dear = {**COSTS["cpu_s"], "api": 0.9}
    levels = [point(50, cpu_s=dear), point(100), point(200, deltas_per_s=1000.0), point(400, broken=1)]
    assert lines(Wanted(100, 20.0), *levels)["api"].cpu_us_per_chunk == pytest.approx(20)
    with pytest.raises(SizingError, match="kept up at no measured level"):
        lines(Wanted(100, 20.0), levels[2], levels[3])


def test_bytes_are_those_of_the_documented_record() -> None:
    """Text, contract and headers."""
    assert sizing.record_bytes(6) == 106 + 6
    assert sizing.event_bytes(6) > sizing.record_bytes(6) + sizing.HEADERS
    (plan,) = sizing.from_perf(results(point(100)), Wanted(1000, 20.0))
    assert plan.links[0].bits_per_s == 8 * 20_000 * sizing.event_bytes(6)


def test_the_floor_and_the_reference_are_no_backends() -> None:
    """And one that was not measured is refused by name."""
    assert [plan.backend for plan in sizing.from_perf(results(point(100)), Wanted(1, 1.0))] == ["any"]
    with pytest.raises(SizingError, match="there are any"):
        sizing.from_perf(results(point(100)), Wanted(1, 1.0), ["pigeon"])


def searched(held: int) -> capacity.Document:
    shape = capacity.Shape(3.0, 5.0, 20.0, "scripted", 1)
    found = {"any": capacity.Capacity(held, held + 10, [], None)}
    clauses = objective.parse("ttft.p95<1s")
    return capacity.Document("2026-01-02", {"cores": 2}, {"workers": 1, "apis": 1}, clauses, shape, found)


def test_a_searched_system_is_counted_whole() -> None:
    """100 held, 60 are planned each; streams of half the pace cost half."""
    (plan,) = sizing.from_capacity(searched(100), Wanted(1000, 20.0))
    assert (plan.count, plan.streams_each) == (17, 60)
    assert plan.extrapolated == "17 systems side by side, 1 measured"
    (slow,) = sizing.from_capacity(searched(100), Wanted(100, 10.0))
    assert (slow.count, slow.extrapolated) == (1, "10 chunks/s a stream, 20 measured")
    (none,) = sizing.from_capacity(searched(0), Wanted(1000, 20.0))
    assert none.count is None


def test_the_plan_prints_every_assumption_and_every_extrapolation() -> None:
    """Nothing that went into it is left unsaid."""
    wanted = Wanted(5000, 20.0)
    plans: list[Sizing | Systems] = [*sizing.from_perf(results(point(100)), wanted)]
    plans += sizing.from_capacity(searched(0), wanted)
    text = markdown(plans, wanted)
    assert text.startswith("# 5,000 streams × 20 chunks/s: 100,000 chunks/s")
    assert "| API processes | 4 | 20.0 | 2.0 | 0.0 GiB | CPU | extrapolated: 25,000 chunks/s each" in text
    assert "no number of such systems will do" in text
    assert all(f"- {sentence}" in text for plan in plans for sentence in plan.assumptions)
    assert json.loads(msgspec.json.encode(plans[0]))["measured"].endswith("of the test")
