"""What a person can choose of a run, and the plan that this gives."""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtest import catalogue, flips, plan, schedules, trace, viewers
from loadtest.flips import Flipping
from loadtest.generator import ALONE, Team
from loadtest.plan import Plan
from loadtest.progress import Mode

BACKENDS = ("polling", "pubsub")
DIRECT = "openai"
"""Stands where a backend's name does when a model is asked without any."""


@dataclass(frozen=True)
class BenchOptions:
    """What a person can choose. `num_conversations` is per backend; null leaves it, and others, to the mode.

    `flipping` is of the scenario that flips, and nobody else's.
    """

    quick: bool = False
    num_conversations: int | None = None
    backends: tuple[str, ...] = BACKENDS
    quartets_at_most: int | None = None
    chunk_rate: float = 20.0
    stream_s: float | None = None
    out: Path = Path("results")
    scenario: str = "steady"
    duration: str | None = None
    protocol: plan.Protocol = "streamgauge"
    trace: Path | None = None
    time_scale: float = 1.0
    seed: int | None = None
    model: str | None = "scripted"
    metrics_port: int | None = None
    team: Team = ALONE
    progress: Mode = "auto"
    flipping: Flipping = field(default_factory=Flipping)


def make_plan(options: BenchOptions, seed: int) -> Plan:
    """The plan these options ask for; what cannot be planned raises ValueError with the fix."""
    return msgspec.structs.replace(_plan(options, seed), protocol=options.protocol)


def _plan(options: BenchOptions, seed: int) -> Plan:
    size = plan.shape(
        quick=options.quick,
        conversations=options.num_conversations,
        chunk_rate=options.chunk_rate,
        model=options.model,
        seed=seed,
        quartets=options.quartets_at_most,
        stream_s=options.stream_s,
    )
    schedule, watch = catalogue.named(options.scenario)
    if options.trace is None and options.time_scale != 1:
        raise ValueError("only a trace has a --time-scale: add --trace FILE.csv, or leave it out")
    if options.protocol == "openai" and watch is not viewers.once:
        raise ValueError(f"a model has no streams to come back to: leave out --scenario {options.scenario}")
    if options.scenario == catalogue.SOAK:
        return _soak(options, size, schedule)
    if options.scenario == catalogue.ROLLBACK:
        return _rollback(options, size)
    if options.duration is not None:
        raise ValueError(f"only soak and rollback have a --duration: add --scenario {catalogue.SOAK}, or leave it out")
    if options.scenario == catalogue.TRACE and options.trace is None:
        raise ValueError("a trace is replayed from a file: add --trace FILE.csv")
    if options.trace is None:
        return plan.scheduled(size, options.backends, schedule, watch)
    if schedule is not schedules.steady:
        raise ValueError(f"a trace sets the arrivals itself: leave out --scenario {options.scenario} or --trace")
    limit = options.num_conversations or (plan.QUICK_TRACE_REQUESTS if options.quick else plan.CONVERSATIONS)
    requests = trace.read(options.trace, limit=limit, time_scale=options.time_scale)
    return plan.replay(size, options.backends, requests, quick=options.quick, watch=watch)


def _soak(options: BenchOptions, size: plan.Shape, schedule: schedules.Schedule) -> Plan:
    if options.trace is not None:
        raise ValueError("a trace sets the arrivals itself: leave out --scenario soak or --trace")
    usual_s = plan.QUICK_SOAK_S if options.quick else plan.SOAK_S
    duration_s = catalogue.duration_s(options.duration) if options.duration else usual_s
    conversations = options.num_conversations or max(1, round(plan.SOAK_PER_S * duration_s))
    return plan.soak(size, options.backends, schedule, duration_s, conversations)


def _rollback(options: BenchOptions, size: plan.Shape) -> Plan:
    """One long block of messages that leave their backend to the flag, and the times at which it is flipped."""
    if options.trace is not None:
        raise ValueError(f"a trace sets the arrivals itself: leave out --scenario {catalogue.ROLLBACK} or --trace")
    how, quick = options.flipping, options.quick
    given_s = catalogue.duration_s(options.duration) if options.duration else None
    times = flips.timetable(size.seed, options.backends, how, quick=quick, duration_s=given_s)
    duration_s = given_s or flips.duration(len(times.flips), how, quick=quick)
    size = size._replace(stream_s=flips.stream_s(quick=quick))
    at_once = flips.QUICK_CONCURRENT if quick else flips.CONCURRENT
    usual = round(at_once * duration_s / (plan.MODEL_TTFT_S + size.stream_s))
    count = options.num_conversations * len(options.backends) if options.num_conversations else usual
    schedule, watch = catalogue.named(options.scenario)
    made = plan.soak(size, (plan.BY_FLAG,), schedule, duration_s, count, watch)
    return msgspec.structs.replace(made, soak_s=None, flips=times)
