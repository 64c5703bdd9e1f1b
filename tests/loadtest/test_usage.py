"""What each backend cost, told apart from the servers' own counters."""

from itertools import pairwise

import pytest

from loadtest import usage
from loadtest.counters import Counters
from loadtest.plan import Arrival, Block, Plan
from loadtest.usage import BlockCounters
from tests.support.stream_rows import MS


def counted(block: int, before: tuple[int, int], after: tuple[int, int], seconds: int = 2) -> BlockCounters:
    start = block * 10 * 1000 * MS
    return BlockCounters(
        block,
        Counters(start, before[0], {"evalsha": before[1], "brpop": 7 * before[1]}),
        Counters(start + seconds * 1000 * MS, after[0], {"evalsha": after[1], "brpop": 9 * after[1], "info": 5}),
    )


def blocks(*names: str) -> Plan:
    arrival = Arrival(0.0, "", None, None, "")
    return Plan(1, 1.0, tuple(Block(index, name, 0, 1, (arrival,) * 4) for index, name in enumerate(names)))


def test_late_reports_of_the_busy_backend_are_not_charged_to_the_quiet_one() -> None:
    """A holds 100 of its 1,000 back in every block; what comes out in B's first block is still A's.

    True costs: 250 queries a stream for A, 10 for B.
    """
    order = ("A", "B", "B", "A", "A")
    reported = (900, 100 + 40, 40, 900, 1000)
    totals = [sum(reported[: index + 1]) for index in range(len(order))]
    made = [counted(index, (before, 0), (after, 0)) for index, (before, after) in enumerate(pairwise([0, *totals]))]
    costs = usage.queries_per_stream(made, blocks(*order))
    assert costs["B"] == 10
    assert costs["A"] == pytest.approx(250, rel=0.05)  # only the last block's leftover is missing
    assert usage.server_counters("B", made, blocks(*order))["db_queries_per_s"] == pytest.approx(20)


def test_of_many_backends_each_but_the_busiest_is_read_from_blocks_after_its_own() -> None:
    """A at 250 queries a stream holds 100 back at the end of each block; B costs 10, C 40, and both follow themselves.

    A A B C C B A A, B B C A A C B B: what is left of A in another's block is never charged to that one.
    """
    order, held = "AABCCBAABBCAACBB", 0
    cost, totals = {"A": 1000, "B": 40, "C": 160}, [0]
    for name in order:
        kept = 100 if name == "A" else 0
        totals.append(totals[-1] + cost[name] + held - kept)
        held = kept
    made = [counted(index, (before, 0), (after, 0)) for index, (before, after) in enumerate(pairwise(totals))]
    assert usage.queries_per_stream(made, blocks(*order)) == {"A": 250, "B": 10, "C": 40}


def test_one_backend_alone_is_charged_with_everything() -> None:
    """Nothing can be misplaced."""
    made = [counted(0, (0, 0), (500, 0)), counted(1, (520, 0), (1040, 0))]
    assert usage.queries_per_stream(made, blocks("A", "A")) == {"A": 130}


def test_backends_that_cannot_be_told_apart_get_no_figure() -> None:
    """An interrupted run in which no block followed its own kind."""
    made = [counted(0, (0, 0), (500, 0)), counted(1, (520, 0), (540, 0))]
    assert usage.queries_per_stream(made, blocks("A", "B")) == {}
    assert usage.server_counters("A", made, blocks("A", "B"))["db_queries_per_s"] is None
    assert usage.queries_per_stream([], blocks("A", "B")) == {}


def test_store_operations_leave_the_broker_out() -> None:
    """Celery waits on the same Valkey: its BRPOP is not an operation of the stream store."""
    made = usage.server_counters("polling", [counted(0, (0, 100), (0, 300))], blocks("polling"))
    assert made["store_ops_per_s"] == pytest.approx(100)
    assert made["store_ops_by_command"] == {"evalsha": 200}


def test_without_servers_to_ask_the_counters_are_null() -> None:
    """A foreign target shows no counters; null is not zero."""
    blind = BlockCounters(0, Counters(0, None, None), Counters(1, None, None))
    made = usage.server_counters("polling", [blind, blind], blocks("polling", "polling"))
    assert (made["db_queries_per_s"], made["store_ops_per_s"], made["store_ops_by_command"]) == (None, None, None)
