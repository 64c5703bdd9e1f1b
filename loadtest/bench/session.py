"""One run of the benchmarks: every load on every system in turn, so that a drift of the machine meets all alike."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from loadtest import host
from loadtest.bench import figures, post
from loadtest.bench.load import Load, Point, System, play
from loadtest.bench.processes import cpu_s
from loadtest.wording import counted

STARTS_PER_S = 50.0
"""How fast streams are opened: about twice the turnover of the largest level that held, so that nothing piles up."""
LEAST_RAMP_S = 1.5
WARM_UP = Load(streams=10, rate=20.0, seconds=0.5, ramp=0.2, warmup=0.2)
BEGINS_WARM_UP, MESSAGE_S = 5, 0.1
SEARCH_FROM = 100
SEARCH_S = 5.0
QUIET_CORES, QUIET_FOR_S, QUIET_WITHIN_S = 0.25, 0.5, 60.0


class Plan(msgspec.Struct, frozen=True):
    """What to measure. `idle` streams get a chunk a second each, for the memory of an open stream; 0 leaves it out.

    `search` is the most streams that the search for each system's edge tries, `messages` are posted to each backend one
    at a time, for how one begins; 0 leaves either out.
    """

    streams: tuple[int, ...]
    rate: float
    seconds: float
    idle: int
    search: int
    messages: int = 0
    polling_interval_s: float | None = None
    """A setting of the backend `polling`, which decides its latency."""


class Results(msgspec.Struct, frozen=True):
    """Everything a report says. `systems` in the order of the columns: the floor first."""

    made_at: str
    machine: dict[str, Any]
    plan: Plan
    systems: list[str]
    idle: list[Point]
    levels: list[list[Point]]
    capacity: dict[str, figures.Capacity]
    begins: dict[str, dict[str, figures.Spread]] = msgspec.field(default_factory=dict)
    """How long a message took to begin on each idle backend, in ms since its POST was sent, by part (`post.PARTS`)."""


def measure(
    systems: Sequence[System],
    plan: Plan,
    note: Callable[[str], None],
    check: Callable[[], None],
    keep: Callable[[Results], None] = lambda _so_far: None,
) -> Results:
    """Measure everything of the plan. `note` hears what begins; `check` raises when a part of a system has ended.

    `keep` gets what there is so far, again and again: a run of an hour should not be lost by what ends it early.
    """
    results = Results(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=host.machine(),
        plan=plan,
        systems=[system.name for system in systems],
        idle=[],
        levels=[],
        capacity={},
    )
    total, done = _loads(plan, len(systems)), 0

    def one(system: System, load: Load) -> Point:
        nonlocal done
        done += 1
        count = f"{done}/{total} " if done <= total else ""
        note(f"{count}{system.name}: {counted(load.streams, 'stream')} × {load.rate:g}/s")
        check()
        point = play(system, load)
        if figures.is_saturated(point) or not point.is_whole:
            _wait_until_quiet(system)
        check()
        return point

    for system in systems:
        # Memory first, of a young process: what a system has once taken it keeps, and later streams would look free.
        if plan.idle:
            note(f"{system.name}: starting it anew")
            system.renew()
        one(system, WARM_UP)
        if plan.idle:
            results.idle.append(one(system, idle_load(plan)))
            keep(results)
    results.begins.update(_begins(systems, plan.messages, note))
    check()
    for streams in plan.streams:
        results.levels.append([one(system, level_load(plan, streams)) for system in systems])
        keep(results)
    for system in systems if plan.search else ():
        results.capacity[system.name] = _capacity(system, plan, one)
        keep(results)
    return results


def level_load(plan: Plan, streams: int) -> Load:
    """So many busy streams, with turnover."""
    return Load(streams, plan.rate, plan.seconds, max(LEAST_RAMP_S, streams / STARTS_PER_S))


def idle_load(plan: Plan) -> Load:
    """Many streams that stay and say little."""
    return Load(plan.idle, 1.0, plan.seconds, max(LEAST_RAMP_S, plan.idle / STARTS_PER_S), turnover=None)


def seconds_at_most(plan: Plan, systems: int) -> float:
    """A guess at how long the fixed part takes: each load's own time and a second for its start and its end."""
    loads = [WARM_UP, *([idle_load(plan)] if plan.idle else []), *(level_load(plan, each) for each in plan.streams)]
    begins = (plan.messages + BEGINS_WARM_UP) * MESSAGE_S if plan.messages else 0
    return systems * (sum(load.ramp + load.warmup + load.seconds + 1.5 for load in loads) + begins)


def _loads(plan: Plan, systems: int) -> int:
    return systems * (1 + bool(plan.idle) + len(plan.streams))


def _begins(
    systems: Sequence[System], messages: int, note: Callable[[str], None]
) -> dict[str, dict[str, figures.Spread]]:
    """Post one message at a time to each backend of ours in turn: only theirs say when their task began."""
    places = {system.name: (system.url, system.backend) for system in systems if system.backend}
    if not messages or not places:
        return {}
    note(f"{', '.join(places)}: {counted(messages, 'message')} each, one at a time")
    found = asyncio.run(post.in_turn(places, messages, BEGINS_WARM_UP))
    return {
        name: {part: figures.spread([row[part] for row in rows]) for part in post.PARTS} for name, rows in found.items()
    }


def _wait_until_quiet(system: System) -> None:
    """Let an overloaded system finish what nobody waits for any more: it would be charged to whoever comes next."""
    pids = [(kind, pid) for kind, members in system.processes().items() for pid in members]
    ends_at = time.monotonic() + QUIET_WITHIN_S
    used = sum(cpu_s(pids).values())
    while time.monotonic() < ends_at:
        time.sleep(QUIET_FOR_S)
        before, used = used, sum(cpu_s(pids).values())
        if used - before < QUIET_CORES * QUIET_FOR_S:
            return


def _capacity(system: System, plan: Plan, one: Callable[[System, Load], Point]) -> figures.Capacity:
    def at(streams: int) -> Point:
        return one(system, Load(streams, plan.rate, SEARCH_S, max(LEAST_RAMP_S, streams / STARTS_PER_S)))

    return figures.search(at, min(SEARCH_FROM, plan.search), plan.search)
