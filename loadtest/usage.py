"""What each backend cost the database and the store, from the servers' own counters: pure.

Valkey counts at once, so a block's operations are what its counters grew by. PostgreSQL's processes hold their
counts back (for a second while busy, for ten once idle: see counters.Meter), so a block that follows another
backend's is charged with leftovers of that one: a quiet block after a busy one showed 172 where it made 98. Therefore

- every backend but the busiest is read from blocks that follow a block of its own: what leaks there is its own little;
- the busiest one is charged with the rest of the run's total, in which nothing can be misplaced.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from loadtest.counters import Counters, store_calls_between
from loadtest.plan import Plan


class BlockCounters(msgspec.Struct, frozen=True):
    """The servers' totals just before a block's first arrival and just after its last stream."""

    block: int
    before: Counters
    after: Counters


def server_counters(name: str, counters: Sequence[BlockCounters], plan: Plan) -> dict[str, Any]:
    """Queries and store operations of one backend; null where no server was asked."""
    measured = [one for one in counters if _is(one, name, plan) and plan.blocks[one.block].quartet is not None]
    streams = sum(_streams(one, plan) for one in measured)
    busy_s = sum(one.after.at_ns - one.before.at_ns for one in measured) / 1e9
    queries = queries_per_stream(counters, plan).get(name)
    calls = _store_calls(measured)
    return {
        "db_queries_per_s": queries * streams / busy_s if queries is not None and busy_s else None,
        "db_queries_per_stream": queries,
        "store_ops_per_s": calls.total() / busy_s if calls is not None and busy_s else None,
        "store_ops_per_stream": calls.total() / streams if calls is not None and streams else None,
        "store_ops_by_command": None if calls is None else dict(calls.most_common()),
    }


def queries_per_stream(counters: Sequence[BlockCounters], plan: Plan) -> dict[str, float]:
    """Transactions of one conversation by backend; a backend that cannot be told apart is left out."""
    played = Counter(dict.fromkeys((block.backend for block in plan.blocks), 0))
    for one in counters:
        played[plan.blocks[one.block].backend] += _streams(one, plan)
    if not counters:
        return {}
    total = _grown(counters[0].before, counters[-1].after)
    if total is None:
        return {}
    active = [name for name, streams in played.items() if streams]
    if len(active) == 1:
        return {active[0]: total / played[active[0]]}
    own = {name: rate for name in active if (rate := _after_its_own(name, counters, plan)) is not None}
    if len(own) < len(active):
        return {}  # interrupted, or too short for so many backends: which one is the busiest cannot be seen
    busiest = max(own, key=lambda name: own[name])
    others = sum(rate * played[name] for name, rate in own.items() if name != busiest)
    return {**own, busiest: max(0.0, total - others) / played[busiest]}


def queries_by_quartet(name: str, counters: Sequence[BlockCounters], plan: Plan) -> list[float | None]:
    """Transactions of one conversation in each quartet, from blocks that follow one of the same backend."""
    quartets = 1 + max((block.quartet for block in plan.blocks if block.quartet is not None), default=-1)
    within = [[one for one in counters if plan.blocks[one.block].quartet == quartet] for quartet in range(quartets)]
    return [_after_its_own(name, some, plan) for some in within]


def _after_its_own(name: str, counters: Sequence[BlockCounters], plan: Plan) -> float | None:
    """From the end of one block of this backend to the end of the next, where they follow each other."""
    queries = streams = 0
    for earlier, now in pairwise(counters):
        grown = _grown(earlier.after, now.after)
        if grown is not None and _is(earlier, name, plan) and _is(now, name, plan):
            queries += grown
            streams += _streams(now, plan)
    return queries / streams if streams else None


def _store_calls(measured: Sequence[BlockCounters]) -> Counter[str] | None:
    grown = [calls for one in measured if (calls := store_calls_between(one.before, one.after)) is not None]
    return sum((Counter(calls) for calls in grown), Counter()) if grown else None


def _grown(before: Counters, after: Counters) -> int | None:
    if before.transactions is None or after.transactions is None:
        return None
    return after.transactions - before.transactions


def _is(one: BlockCounters, name: str, plan: Plan) -> bool:
    return plan.blocks[one.block].backend == name


def _streams(one: BlockCounters, plan: Plan) -> int:
    return len(plan.blocks[one.block].arrivals)
