"""The search for the most streams: what a level is, where the search ends, and what its answer is worth."""

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from loadtest import capacity, capacity_page, capacity_report, objective
from loadtest.capacity import Document, Level, Shape
from loadtest.capacity_run import CapacityOptions, find_capacity
from loadtest.verdict import Verdict
from tests.support.stream_rows import MS, intact
from tests.support.targets import running_target

SHAPE = Shape(stream_s=1.0, window_s=2.0, chunk_rate=20.0, model="scripted", seed=1)
CLAUSES = objective.parse("delivery_latency.p99<50ms,intact=100%")


def level(streams: int, *, p99: float = 0.01, arrived: float = 1.0, verdict: Verdict = Verdict.VALID) -> Level:
    clause = CLAUSES[0]
    kept = p99 < clause.limit and arrived >= capacity.KEPT_UP
    return Level(
        streams=streams,
        concurrency=float(streams),
        deltas_per_s=20.0 * streams * arrived,
        offered_per_s=20.0 * streams,
        checks=[objective.Checked(clause, p99, p99 < clause.limit), objective.Checked(CLAUSES[1], 100.0, True)],
        holds=kept and verdict not in capacity.UNTRUSTED,
        verdict=verdict,
        reasons=[] if verdict is Verdict.VALID else ["GENERATOR-LIMITED: it was late"],
        figures={},
    )


def document(**backends: capacity.Capacity) -> Document:
    machine: dict[str, Any] = {"cores": 2, "packages": {}, "git_revision": "abc"}
    settings = {"target": "http://127.0.0.1:1", "start": 10, "limit": 100, "quick": True}
    return Document("2026-01-02T03:04:05+00:00", machine, settings, CLAUSES, SHAPE, backends)


def test_a_level_keeps_so_many_streams_open_while_it_counts() -> None:
    """A stream's length before those that count, the window, and a stream's length behind them."""
    block = capacity.plan(SHAPE, "pubsub", 12).blocks[0]
    counted = [one.at_s for one in block.arrivals if one.counted]
    assert [min(counted), max(counted)] == pytest.approx([1.2, 3.1], abs=0.1)
    for moment in (1.3, 2.0, 3.1, 4.2):
        assert sum(one.at_s <= moment < one.at_s + SHAPE.lasts_s for one in block.arrivals) == pytest.approx(12, abs=1)
    assert len({one.model for one in block.arrivals}) == len(block.arrivals)


def test_concurrency_and_throughput_are_those_of_the_window() -> None:
    """What was open and what came then, not what was asked for."""
    rows = [intact(block=0), intact(block=0)]
    opened, closed = rows[0].opened_ns or 0, rows[0].closed_ns or 0
    assert capacity.open_on_average(rows, (opened, closed)) == 2
    assert capacity.open_on_average(rows, (closed, closed + 100 * MS)) == 0
    assert capacity.received_per_s(rows, (opened, opened + 1000 * MS)) == 10
    merged = [msgspec.structs.replace(row, deltas=tuple(2 * each for each in row.deltas)) for row in rows]
    assert capacity.received_per_s(merged, (opened, opened + 1000 * MS)) == 20


@pytest.mark.parametrize("most", [1, 7, 33, 90, 410])
def test_the_search_closes_in_on_the_edge(most: int) -> None:
    """To within a tenth, with points beyond it, and the edge tried again."""
    found = capacity.search(lambda streams: level(streams, p99=0.01 if streams <= most else 0.2), 10, 1000, 2)
    assert found.failed is not None
    assert found.held <= most < found.failed <= max(found.held + 1, 1.1 * found.held + 1)
    assert sum(one.streams == found.held for one in found.levels) == 2
    assert found.law is None or found.law.lambda_ == pytest.approx(20, rel=0.01)


def test_an_edge_that_fails_when_it_is_tried_again_is_no_edge() -> None:
    """The search goes on below it, and the new edge is tried again in its turn."""
    tries: list[int] = []

    def play(streams: int) -> Level:
        tries.append(streams)
        fails = streams > 45 or (streams >= 40 and tries.count(streams) > 1)
        return level(streams, p99=0.2 if fails else 0.01)

    found = capacity.search(play, 10, 1000, 2)
    assert 30 < found.held < 40
    assert found.failed is not None
    assert found.failed <= 1.1 * found.held + 1
    assert tries.count(found.held) == 2


def test_a_search_that_meets_no_failure_says_so() -> None:
    """And one that meets nothing else."""
    whole = capacity.search(level, 10, 100, 2)
    assert (whole.held, whole.failed) == (80, None)
    assert "no failure in range" in capacity_report.held(whole)
    none = capacity.search(lambda streams: level(streams, arrived=0.1), 10, 100, 2)
    assert (none.held, none.failed) == (0, 1)
    assert capacity_report.held(none) == "not even 1 stream held"


def test_a_load_at_its_own_limit_is_not_the_systems() -> None:
    """The failure is the generator's: the system may hold more, and the law is doubted."""

    def play(streams: int) -> Level:
        return level(streams, verdict=Verdict.GENERATOR_LIMITED if streams > 40 else Verdict.VALID)

    found = capacity.search(play, 10, 100, 1)
    assert found.failed_by_load
    assert "the load generator was at its own limit" in capacity_report.held(found)
    assert found.law is not None
    assert any("are not VALID" in doubt for doubt in found.law.doubts)


def test_the_reports_say_what_was_found_and_what_is_not_to_be_trusted(tmp_path: Path) -> None:
    """The same in the document, in Markdown and on the page; an infinite latency is no point on it."""

    def play(streams: int) -> Level:
        never = [objective.Checked(CLAUSES[0], None, False), objective.Checked(CLAUSES[1], 50.0, False)]
        return level(streams) if streams < 50 else msgspec.structs.replace(level(streams), checks=never, holds=False)

    found = capacity.search(play, 10, 100, 1)
    made = document(polling=found, pubsub=capacity.search(level, 10, 100, 1))
    capacity.save(made, tmp_path / "capacity.json")
    assert capacity.read((tmp_path / "capacity.json").read_bytes()) == made
    html, text = capacity_page.write(made, tmp_path).read_text(), capacity_report.markdown(made)
    for said in (html, text):
        assert "∞ ✗" in said
        assert "no failure in range" in said
        assert "not to be trusted: throughput still grows in step with the load" in said
    assert "--slo &#34;delivery_latency.p99&lt;0.05s,intact=100%&#34;" in html
    assert html.count("<figure>") == 2


def test_a_target_is_searched_over_the_wire(tmp_path: Path) -> None:
    """POST, stream, turnover, message: one backend keeps 200 ms, the other is 300 ms behind and never does.

    A machine that is too busy for the load itself may fail a level, but no clause of it, and it is said whose fault.
    """
    clauses = objective.parse("delivery_latency.p50<200ms,intact=100%")  # a busy machine has a tail of its own
    options = CapacityOptions(
        tuple(clauses), ("fast", "slow"), start=1, limit=1, quick=True, stream_s=0.4, window_s=1.0, out=tmp_path
    )
    output = io.StringIO()
    with running_target(fast=0.001, slow=0.3) as target:
        folder = find_capacity(options, target, Console(file=output, width=120))
    found = capacity.read((folder / "capacity.json").read_bytes())
    fast, slow = found.backends["fast"], found.backends["slow"]
    assert all(checked.kept for one in fast.levels for checked in one.checks)
    assert all(one.keeps_up for one in fast.levels)
    failed = [one for one in fast.levels if not one.holds]
    assert all(one.verdict is Verdict.GENERATOR_LIMITED for one in failed)
    assert (fast.held, fast.failed) == (1, None) if not failed else fast.failed_by_load
    assert (slow.held, slow.failed) == (0, 1)
    assert not any(one.checks[0].kept for one in slow.levels)
    assert fast.levels[0].concurrency == pytest.approx(1, rel=0.3)
    assert "1 stream" in output.getvalue()
    assert {"capacity.json", "capacity.md", "capacity.html", "levels"} == {path.name for path in folder.iterdir()}
