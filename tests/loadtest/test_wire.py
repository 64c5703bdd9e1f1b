"""Locust in a process of its own against a real server: what is measured is what the server did."""

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trustme
from rich.console import Console

from loadtest import integrity, plan, recorder, summary
from loadtest.clock import Offset
from loadtest.counters import Meter
from loadtest.integrity import Fault
from loadtest.plan import Arrival, Block, Plan
from loadtest.recorder import StreamRow
from loadtest.run import Load, play
from tests.support.sse_target import FAULTS
from tests.support.targets import running_target

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
BEHIND_S = 0.05
# What the recorder must find in a stream that was broken in each of the ways the server knows.
EXPECTED = {
    "hole": {Fault.HOLES, Fault.CONTENT_MISMATCH},
    "repeat": {Fault.REPEATS, Fault.CONTENT_MISMATCH},
    "disorder": {Fault.OUT_OF_ORDER, Fault.CONTENT_MISMATCH},
    "no_terminal": {Fault.MISSING_TERMINAL},
    "mismatch": {Fault.CONTENT_MISMATCH},
    "cut": {Fault.MISSING_TERMINAL, Fault.FAILED},
    "stall": {Fault.MISSING_TERMINAL, Fault.FAILED},
    "refuse": {Fault.FAILED},
    "wrong_backend": {Fault.FAILED},
    "reset": set(),
    "malformed": {Fault.MISSING_TERMINAL, Fault.FAILED},
    "failed": {Fault.FAILED},
    "wrong_id": {Fault.FAILED},
    "lost_message": {Fault.FAILED},
}


def broken(fault: str) -> Arrival:
    return Arrival(0.1, "polling", f"scripted?chunks=6&fault={fault}", None, f"fault {fault}")


def steady(at_s: float, backend: str) -> Arrival:
    return Arrival(at_s, backend, "scripted?ttft=0.1&gap=0.05&chunks=20", None, "hello")


class Played:
    """A plan of two blocks, played once: ten good streams, then one stream of each fault."""

    def __init__(self, target: str, folder: Path) -> None:
        good = tuple(steady(0.05 * index, "pubsub") for index in range(10))
        faulty = tuple(broken(fault) for fault in FAULTS)
        self.plan = Plan(1, 3.0, (Block(0, "pubsub", 0, 1, good), Block(1, "polling", 0, 1, faulty)))
        plan.save(self.plan, folder / "plan.json")
        self.output = io.StringIO()
        with Meter(None, None, lambda: 0) as meter:
            self.load: Load = play(self.plan, target, folder, meter, Console(file=self.output))
        self.rows = recorder.read_streams(folder / "streams.jsonl")
        self.generator = recorder.read_generator(folder / "generator.jsonl")
        self.locust = (folder / "locust_stats.csv").read_text()

    @property
    def good(self) -> list[StreamRow]:
        return [row for row in self.rows if row.block == 0]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with running_target(pubsub=BEHIND_S) as target:
        yield Played(target, tmp_path_factory.mktemp("results"))


def test_every_arrival_leaves_one_row(played: Played) -> None:
    """Broken or not."""
    assert sorted((row.block, row.arrival) for row in played.rows) == [
        *((0, index) for index in range(10)),
        *((1, index) for index in range(len(FAULTS))),
    ]


def test_whole_streams_are_intact(played: Played) -> None:
    """Twenty chunks and a terminal each, with the committed text, and comments seen."""
    assert [integrity.faults(row) for row in played.good] == [frozenset()] * 10
    assert all(row.kinds == (*["content"] * 20, "done") for row in played.good)
    assert all(row.comments == ("hello",) for row in played.good)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_on_the_wire_is_found(played: Played, fault: str) -> None:
    """Each broken stream shows exactly its own faults."""
    row = next(row for row in played.rows if row.block == 1 and row.arrival == FAULTS.index(fault))
    assert integrity.faults(row) == EXPECTED[fault], integrity.why_failed(row)


def test_the_delivery_latency_is_the_servers_delay(played: Played) -> None:
    """Chunks dated 50 ms back measure at least 50 ms, and little more: the reader does not hold them up.

    Locust's own line reader waits for 1,024 bytes, which showed as 504 ms on such a stream; this would catch it.
    """
    latency = summary.delivery_latency(summary.measure(played.good), HERE)
    p50, p95 = latency.percentile_s(50), latency.percentile_s(95)
    assert latency.count == 200
    assert p50 is not None
    assert p95 is not None
    assert BEHIND_S <= p50 < BEHIND_S + 0.02
    assert p95 < BEHIND_S + 0.1


def test_streams_over_tls_are_read_as_they_come(tmp_path: Path) -> None:
    """Whole, and each chunk at once: what TLS has taken off the socket already is not left waiting."""
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    streams = tuple(steady(0.05 * index, "pubsub") for index in range(3))
    only = Plan(1, 10.0, (Block(0, "pubsub", 0, 1, streams),))
    plan.save(only, tmp_path / "plan.json")
    with running_target(tmp_path / "both.pem", pubsub=BEHIND_S) as target, Meter(None, None, lambda: 0) as meter:
        play(only, target, tmp_path, meter, Console(file=io.StringIO()))
    rows = recorder.read_streams(tmp_path / "streams.jsonl")
    assert [integrity.faults(row) for row in rows] == [frozenset()] * 3
    p95 = summary.delivery_latency(summary.measure(rows), HERE).percentile_s(95)
    assert p95 is not None
    assert p95 < BEHIND_S + 0.1


def test_chunks_are_stamped_one_by_one(played: Played) -> None:
    """The server's gaps of 50 ms are seen, not bursts."""
    gaps = summary.inter_chunk_latency(summary.measure(played.good), HERE)
    assert gaps.percentile_s(50) == pytest.approx(0.051, abs=0.01)


def test_arrivals_start_at_their_intended_instants(played: Played) -> None:
    """Within 50 ms, and never early: a slow stream does not hold the next one back."""
    lags = [row.sent_ns - row.intended_ns for row in played.good if row.sent_ns]
    assert len(lags) == 10
    assert all(0 <= lag < 50_000_000 for lag in lags)
    starts = [row.intended_ns for row in sorted(played.good, key=lambda row: row.arrival)]
    assert [later - earlier for earlier, later in pairwise(starts)] == [50_000_000] * 9
    assert max(row.sent_ns or 0 for row in played.good) < min(row.closed_ns or 0 for row in played.good)


def test_the_instants_of_a_stream_are_in_order(played: Played) -> None:
    """Intended, sent, accepted, opened, first byte, chunks, terminal, closed, verified."""
    for row in played.good:
        instants = [row.intended_ns, row.sent_ns, row.accepted_ns, row.opened_ns, row.first_byte_ns]
        instants += [*row.received_ns, row.terminal_ns, row.closed_ns, row.verified_ns]
        known = [at for at in instants if at is not None]
        assert len(known) == len(instants)
        assert known == sorted(known)


def test_the_generator_accounts_for_itself(played: Played) -> None:
    """Processor time and loop lag of each block."""
    assert [row.block for row in played.generator] == [0, 1]
    assert all(row.cpu_ns > 0 and row.loop_lag_ns for row in played.generator)


def test_locusts_own_statistics_are_fed_and_know_the_broken_streams(played: Played) -> None:
    """A stream that broke after its headers is no success there either."""
    lines = {line.split(",")[1]: line.split(",") for line in played.locust.splitlines()}
    assert lines["GET /stream/[task_id] pubsub"][2:4] == ["10", "0"]
    polling = lines["GET /stream/[task_id] polling"]
    # cut, stall, malformed, failed, no_terminal
    assert polling[2:4] == [str(len(FAULTS) - 1), "5"]


def test_blocks_wait_for_each_other(played: Played) -> None:
    """No stream of the second block was sent before the first block's last was over."""
    second = [row.sent_ns for row in played.rows if row.block == 1 and row.sent_ns]
    assert min(second) > max(row.closed_ns or 0 for row in played.good)
    assert played.load.started == [0, 1]
