"""Every scenario against the real system: each viewer has its row, and each row has what the scenario is about."""

import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

from loadtest import extras, integrity, plan, recorder, summary, viewers
from loadtest.clock import Offset
from loadtest.counters import Meter
from loadtest.integrity import Fault
from loadtest.options import BenchOptions, make_plan
from loadtest.plan import Arrival, Block, Plan
from loadtest.recorder import StreamRow
from loadtest.run import play, run_bench
from loadtest.target import BenchError
from loadtest.viewers import Drop, Viewer, Watching
from loadtest.watched import System
from ops.stack import Stack
from tests.support.targets import ROOT, running_target

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
CHUNKS, RATE, STREAMS = 24, 40.0, 3
SCENARIOS = {
    "reconnect": viewers.reconnecting,
    "late-join": viewers.late,
    "multi-viewer": viewers.several,
    "slow-client": viewers.beside_slow,
    "cancel": viewers.cancelling,
}
SLOW_SEGMENT = 2


def arrival(index: int, backend: str, watching: Watching) -> Arrival:
    model = f"scripted?ttft=0.1&gap={1 / RATE}&chunks={CHUNKS}&seed={index}"
    return Arrival(0.03 * index, backend, model, None, "hello", CHUNKS, True, watching)


def played(blocks: Sequence[tuple[str, Sequence[Watching]]], target: str, folder: Path) -> list[StreamRow]:
    """The rows of blocks, each of a backend and the viewers of its streams."""
    made = tuple(
        Block(number, backend, 0, 1, tuple(arrival(index, backend, one) for index, one in enumerate(watchings)))
        for number, (backend, watchings) in enumerate(blocks)
    )
    plan.save(Plan(1, 20.0, made), folder / "plan.json")
    with Meter(None, None, lambda: 0) as meter:
        play(Plan(1, 20.0, made), target, folder, meter, Console(file=io.StringIO()))
    return recorder.read_streams(folder / "streams.jsonl")


class Played:
    """All scenarios, played once by one generator: those on pub/sub, then reconnecting on polling."""

    def __init__(self, target: str, folder: Path) -> None:
        rng = random.Random(1)
        watched = {
            name: [watch(rng, SLOW_SEGMENT, CHUNKS, RATE) for _ in range(STREAMS)] for name, watch in SCENARIOS.items()
        }
        watched["reconnect"][0] = Watching((Viewer(drops=(Drop(0, 0.2), Drop(7, 0.0))),))
        blocks = [("pubsub", one) for one in watched.values()]
        self.rows = played([*blocks, ("polling", watched["reconnect"])], target, folder)
        self._numbers = {name: number for number, name in enumerate([*watched, "reconnect on polling"])}

    def of(self, scenario: str) -> list[StreamRow]:
        """A scenario's rows, in the order of its streams and their viewers."""
        found = [row for row in self.rows if row.block == self._numbers[scenario]]
        return sorted(found, key=lambda row: (row.arrival, row.viewer))

    def extra(self, scenario: str) -> dict[str, Any]:
        """A scenario's extra distributions."""
        return dict(extras.distributions(summary.measure(self.of(scenario)), HERE))


@pytest.fixture(scope="module")
def everything(system: Stack, tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(system.api_url, tmp_path_factory.mktemp("scenarios"))


def test_every_viewer_of_every_stream_leaves_one_row_and_all_are_intact(everything: Played) -> None:
    """Compared with the committed message, also those who came late, were away, were slow, or cancelled."""
    counts = {name: len(everything.of(name)) for name in SCENARIOS}
    assert counts == {"reconnect": 3, "late-join": 6, "multi-viewer": 9, "slow-client": 6, "cancel": 3}
    assert [integrity.faults(row) for row in everything.rows] == [frozenset()] * len(everything.rows)
    assert all(row.committed is not None for row in everything.rows)


@pytest.mark.parametrize("scenario", ["reconnect", "reconnect on polling"])
def test_a_viewer_who_reconnects_gets_every_event_once(everything: Played, scenario: str) -> None:
    """Over all its connections, also when the first broke before anything had come."""
    for row in everything.of(scenario):
        assert row.indexes == tuple(range(len(row.indexes))), "a busy store coalesces chunks, and leaves no hole"
        assert row.committed is not None
        assert row.committed.content == integrity.joined(row)
        for one in row.resumes:
            assert one.dropped_ns <= one.opened_ns <= row.received_ns[one.events_before]
    rows = everything.of(scenario)
    assert rows[0].resumes[0].events_before == 0
    # One batch may bring events beyond a viewer's next place as well, which then breaks off before anything new came.
    bringing = [len({one.events_before for one in row.resumes}) for row in rows]
    assert sum(bringing) >= 2
    latency = everything.extra(scenario)["resume_latency"]
    assert latency.count == sum(bringing)
    assert latency.percentile_s(50) > 0


def test_what_waited_for_an_absent_viewer_is_no_delivery_latency(everything: Played) -> None:
    """Drops of up to 400 ms do not show in it: it stays what it is without them."""
    latency = summary.delivery_latency(summary.measure(everything.of("reconnect")), HERE)
    assert 0 < latency.count < STREAMS * CHUNKS
    assert (latency.percentile_s(95) or 1) < 0.1


def test_a_late_viewer_begins_at_the_beginning_and_catches_up(everything: Played) -> None:
    """It opens its stream when part of the answer is there, and has all of that at once."""
    for first, late in zip(everything.of("late-join")[::2], everything.of("late-join")[1::2], strict=True):
        assert late.opened_ns is not None
        assert late.opened_ns > first.received_ns[first.arrival + 2]
        assert late.opened_ns < first.received_ns[-1]
        assert late.indexes == first.indexes
        assert late.sent_ns is None
    catching = everything.extra("late-join")["catch_up_latency"]
    assert catching.count == STREAMS
    assert catching.percentile_s(99) < 1


def test_all_viewers_of_a_stream_see_the_same(everything: Played) -> None:
    """Text and order; how far apart they see an event is told."""
    rows = everything.of("multi-viewer")
    texts = {(row.arrival, integrity.joined(row)) for row in rows}
    assert len(texts) == STREAMS
    assert len({(row.arrival, row.indexes) for row in rows}) == STREAMS
    # What was made before a viewer had joined is none of its skew, and a busy store coalesces chunks.
    assert 0 < everything.extra("multi-viewer")["viewer_skew"].count <= STREAMS * (CHUNKS + 1)


def test_a_slow_viewer_gets_all_later_and_is_not_counted_with_the_others(everything: Played) -> None:
    """It reads at a quarter of the pace, so its last chunk is late by more than the stream's length."""
    made = everything.extra("slow-client")
    slow = sum(row.kinds.count("content") for row in everything.of("slow-client")) - sum(
        one.row.kinds.count("content") for one in summary.measure(everything.of("slow-client")) if one.measured
    )
    assert made["delivery_latency_slow"].count == slow > 0
    assert made["delivery_latency_slow"].percentile_s(99) > 0.3
    assert made["delivery_latency_beside_slow"].percentile_s(50) < 0.1
    measured = [one for one in summary.measure(everything.of("slow-client")) if one.measured]
    assert len(measured) == STREAMS


def test_a_cancelled_stream_ends_so_and_its_part_is_the_message(everything: Played) -> None:
    """Partial text and committed text agree, and the time from the cancel to the terminal is known."""
    for row in everything.of("cancel"):
        assert row.kinds[-1] == "cancelled"
        assert row.committed is not None
        assert row.committed.status == "cancelled"
        assert 0 < row.kinds.count("content") < CHUNKS
        assert row.committed.content == integrity.joined(row)
    latency = everything.extra("cancel")["cancel_latency"]
    assert latency.count == STREAMS
    assert latency.percentile_s(99) < 1


def test_a_server_that_begins_anew_when_resumed_is_found(tmp_path: Path) -> None:
    """The last event id was sent and not obeyed: repeats, and a text that is not the message."""
    watching = Watching((Viewer(drops=(Drop(5, 0.0),)),))
    with running_target() as target:
        (row,) = played([("pubsub", [watching])], target, tmp_path)
    assert integrity.faults(row) == {Fault.REPEATS, Fault.CONTENT_MISMATCH}


def test_a_failed_cancel_fails_the_stream(tmp_path: Path) -> None:
    """Against a server that knows none, the row says what was answered."""
    with running_target() as target:
        (row,) = played([("pubsub", [Watching(cancel_after=3)])], target, tmp_path)
    assert integrity.faults(row) == {Fault.FAILED}
    assert "POST answered" in (row.error or "")


def test_a_soak_shows_each_slice_and_the_memory_of_every_process(system: Stack, tmp_path: Path) -> None:
    """In the document, which follows the schema, and in the report."""
    options = BenchOptions(
        quick=True, scenario="soak", duration="3s", num_conversations=12, backends=("pubsub",), out=tmp_path, seed=1
    )
    processes = {name: system.processes[name].pid for name in ("api-1", "worker-1")}
    console = Console(file=io.StringIO())
    seen = System([f"{system.api_url}/metrics", *system.worker_metrics_urls], processes)
    folder = run_bench(options, system.api_url, None, None, console, None, seen)
    made = json.loads((folder / "result.json").read_text())
    jsonschema.validate(made, json.loads((ROOT / "docs/result.schema.json").read_text()))
    slices = made["backends"]["pubsub"]["over_time"]
    assert [one["at_s"] for one in slices] == [0.0, 2.0]
    assert sum(one["intact"] for one in slices) == sum(one["streams"] for one in slices) == 12
    assert set(slices[0]["rss_bytes"]) == set(processes)
    used, hops = made["backends"]["pubsub"]["cpu_us_per_chunk"], made["backends"]["pubsub"]["hops_s"]
    assert used["api"] > 0
    assert used["worker"] > 0
    assert 0 < hops["publish"] < 0.1
    assert 0 < hops["publish"] + hops["transit"] + hops["write"] < 0.1
    assert "## pubsub over time" in (folder / "report.md").read_text()


def test_a_model_is_measured_without_streamgauge(system: Stack, tmp_path: Path) -> None:
    """The same plan and recorder: first token and gaps as scripted, and no delivery latency, which nobody can know."""
    output = io.StringIO()
    options = BenchOptions(quick=True, num_conversations=2, stream_s=0.5, protocol="openai", out=tmp_path, seed=1)
    folder = run_bench(options, system.openai_base_url, None, None, Console(file=output, width=100))
    made = json.loads((folder / "result.json").read_text())["backends"]["openai"]
    assert made["integrity"]["intact"] == made["streams"] == 2
    assert made["ttft_s"]["p50"] == pytest.approx(0.2, abs=0.05)
    assert made["inter_chunk_latency_s"]["p50"] == pytest.approx(0.05, abs=0.01)
    assert made["delivery_latency_s"]["count"] == made["delivery_latency_s"]["adjusted"]["lost"] == 0
    assert "ttft p50" in output.getvalue()
    assert "delivery_latency" not in output.getvalue()


@pytest.mark.parametrize(("fault", "error"), [("cut", "HTTPParseError"), ("garbage", "malformed"), ("500", "500")])
def test_a_model_that_fails_is_no_success(system: Stack, tmp_path: Path, fault: str, error: str) -> None:
    """Cut off, unreadable or refused: each is a failed stream with its reason."""
    asked = Arrival(0.0, "openai", f"scripted?ttft=0.05&gap=0.01&chunks=6&fault={fault}&at=3", None, "hello", 6)
    only = Plan(1, 10.0, (Block(0, "openai", 0, 1, (asked,)),), protocol="openai")
    plan.save(only, tmp_path / "plan.json")
    with Meter(None, None, lambda: 0) as meter:
        play(only, system.openai_base_url, tmp_path, meter, Console(file=io.StringIO()))
    (row,) = recorder.read_streams(tmp_path / "streams.jsonl")
    assert Fault.FAILED in integrity.faults(row)
    assert error in (row.error or "")


def test_what_is_no_model_is_refused(system: Stack, tmp_path: Path) -> None:
    """With what to give instead; so is a scenario that a model can't play."""
    options = BenchOptions(protocol="openai", out=tmp_path)
    with pytest.raises(BenchError, match="give the URL that ends before /chat/completions"):
        run_bench(options, system.api_url, None, None, Console(file=io.StringIO()))
    with pytest.raises(ValueError, match="leave out --scenario cancel"):
        make_plan(BenchOptions(protocol="openai", scenario="cancel"), 1)
