"""Can this run's figures be trusted? A verdict and its reasons; a number of a run that is not VALID passes no gate."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from loadtest.clock import Offset
from loadtest.host import HostSample
from loadtest.recorder import GeneratorRow
from loadtest.stats import Distribution
from loadtest.wording import counted, seconds

# What a reader of a chat notices: a first word after more than a second, a pause of more than a quarter second.
FIRST_TOKEN_OBJECTIVE_S = 1.0
CHUNK_OBJECTIVE_S = 0.25
# The generator may add a twentieth of what it is to judge: to the start of a stream 50 ms, to a chunk 12.5 ms.
GENERATOR_SHARE = 0.05
# Above this the generator's own loop saturates and the lag of its clock readings grows without bound.
GENERATOR_CPU = 0.9
# Time the hypervisor gave to others: 5 % of a core is a 5 ms hole in every 100 ms, the size of what is measured.
STEAL = 0.05
# Pressure is the share of time in which something that could run had to wait. The system under test, its database and
# its load share the machine, so a run is under pressure by its own doing: only when something waits nearly always do
# the figures show the queue for the processor and not the streaming.
PRESSURE = 0.8
# Of all the machine's processor time, what programs took that are no part of the run. Pressure does not tell them from
# the run itself, and beside a busy one the same code has shown twice the latency.
OTHERS = 0.25
# The wall clock is slewed together with the monotonic one, so any visible difference is a step.
CLOCK_STEP_S = 0.001
# Between hosts: an offset that is known no better than this hides a twentieth of a pause a reader notices.
CLOCK_BOUND_S = 0.0125
# The smallest step that the clock shows. Kernels whose clocksource is not the processor's read it in microseconds.
CLOCK_RESOLUTION_S = 0.00001
# How far the same backend may be from itself when its interval leaves out 1; closer is of no consequence.
NOISE_FLOOR = 1.05
# The most and the least of so many streams enclose the median with 95 % certainty; of fewer nothing does.
LEAST_STREAMS = 6
# A noise floor whose interval reaches further calls a threefold difference nothing. Two quartets that are a sixth
# apart reach so far.
FLOOR_REACH = 3.0
# What a stream's row may say without its having broken.
_NO_BREAK = ("intact", "censored")
# Two instants on one clock cannot be in the wrong order; between hosts the offset's bound explains a few.
BELOW_ZERO_SHARE = 0.001


class Verdict(StrEnum):
    """The worst finding names the run."""

    VALID = "VALID"
    TOO_FEW = "TOO-FEW"
    NOISY = "NOISY"
    GENERATOR_LIMITED = "GENERATOR-LIMITED"
    CENSORED = "CENSORED"
    BROKEN = "BROKEN"


_WORST_FIRST = (Verdict.BROKEN, Verdict.CENSORED, Verdict.GENERATOR_LIMITED, Verdict.NOISY, Verdict.TOO_FEW)


class Evidence(msgspec.Struct, frozen=True):
    """What the verdict rests on; published with it. Shares are of 1, null where the machine does not tell."""

    start_lag_p99_s: float | None
    loop_lag_p99_s: float | None
    generator_cpu_share: float | None
    steal_share: float | None
    cpu_pressure_share: float | None
    idle_share: float | None
    clock_step_s: float
    clock_resolution_s: float = 0.0
    clock_bound_s: float = 0.0
    clock_drift_s: float = 0.0
    others_share: float | None = None
    other_loads: int = 0


def evidence(
    start_lag: Distribution,
    generator: Sequence[GeneratorRow],
    host: Sequence[HostSample],
    offset: Offset,
    offset_after: Offset,
    others_share: float | None = None,
) -> Evidence:
    """Boil the generator's and the host's samples down."""
    lag = Distribution(one for block in generator for one in block.loop_lag_ns)
    first, last = host[0], host[-1]
    ticks = _grown(first.cpu_ticks, last.cpu_ticks)
    pressure_us = _grown(first.cpu_pressure_us, last.cpu_pressure_us)
    offsets = [one.wall_minus_monotonic_ns for one in host]
    return Evidence(
        start_lag_p99_s=start_lag.percentile_s(99),
        loop_lag_p99_s=lag.percentile_s(99),
        generator_cpu_share=_busiest(generator),
        steal_share=_share(_grown(first.steal_ticks, last.steal_ticks), ticks),
        cpu_pressure_share=_share(pressure_us, (last.at_ns - first.at_ns) // 1000),
        idle_share=_share(_grown(first.idle_ticks, last.idle_ticks), ticks),
        clock_step_s=(max(offsets) - min(offsets)) / 1e9,
        clock_resolution_s=max(one.clock_resolution_ns for one in host) / 1e9,
        clock_bound_s=max(offset.bound_ns, offset_after.bound_ns) / 1e9,
        # What the two bounds cannot explain of the change is drift between the hosts' clocks.
        clock_drift_s=max(0, abs(offset_after.offset_ns - offset.offset_ns) - offset.bound_ns - offset_after.bound_ns)
        / 1e9,
        others_share=others_share,
        other_loads=max(one.other_loads for one in host),
    )


def _busiest(generator: Sequence[GeneratorRow]) -> float | None:
    """The share of a core that the busiest of the load generators took."""
    shares = []
    for number in {block.generator for block in generator}:
        own = [block for block in generator if block.generator == number]
        wall_ns = sum(block.ended_ns - block.began_ns for block in own)
        shares += [sum(block.cpu_ns for block in own) / wall_ns] if wall_ns else []
    return max(shares, default=None)


def judge(
    found: Evidence,
    backends: Mapping[str, Mapping[str, Any]],
    noise_floor: Mapping[str, Mapping[str, Any]] | None,
    *,
    interrupted: bool,
    also: Sequence[tuple[Verdict, str]] = (),
) -> tuple[Verdict, list[str]]:
    """The verdict, and a sentence for everything that speaks against the run, the worst first (none when VALID).

    `also` is what else does where the figures are to be compared: a search for the edge expects streams to break.
    """
    reasons = [
        *also,
        *((Verdict.CENSORED, reason) for reason in _censored(backends, interrupted=interrupted)),
        *((Verdict.GENERATOR_LIMITED, reason) for reason in _generator(found)),
        *((Verdict.NOISY, reason) for reason in [*_beside(found), *_noise(found, backends), *_floor(noise_floor)]),
    ]
    reasons.sort(key=lambda reason: _WORST_FIRST.index(reason[0]))
    verdict = reasons[0][0] if reasons else Verdict.VALID
    return verdict, [f"{kind}: {reason}" for kind, reason in reasons]


def broken(backends: Mapping[str, Mapping[str, Any]]) -> list[tuple[Verdict, str]]:
    """A sentence for each backend of which a stream broke: how many, how, and why most of them did.

    One is enough: no backend may lose or repeat anything, and the percentiles are those of the survivors.
    """
    return [
        (
            Verdict.BROKEN,
            f"{count} of {counted(figures['streams'], 'stream')} of {name} did not come whole: {_how(figures)}",
        )
        for name, figures in backends.items()
        if (count := _broken(figures["integrity"], figures["streams"]))
    ]


def _broken(integrity: Mapping[str, int], streams: int) -> int:
    """Those that ended by themselves and were not intact."""
    return streams - integrity["intact"] - integrity["censored"]


def _how(figures: Mapping[str, Any]) -> str:
    kinds = [f"{count} {kind}" for kind, count in figures["integrity"].items() if kind not in _NO_BREAK and count]
    why = next(iter(figures["failures"]), None)
    return ", ".join(kinds) + (f" (most often: {why})" if why else "")


def too_few(
    backends: Mapping[str, Mapping[str, Any]],
    comparisons: Sequence[Mapping[str, Any]],
    noise_floor: Mapping[str, Mapping[str, Any]] | None,
) -> list[tuple[Verdict, str]]:
    """A sentence for each way in which the run is too small to tell anything."""
    reasons = [
        f"{counted(count, 'stream')} of {name}, and {LEAST_STREAMS} are the fewest that tell: "
        "more with --num-conversations"
        for name, figures in backends.items()
        if (count := figures["streams"]) < LEAST_STREAMS
    ]
    floor = [noise_floor["p50"]] if noise_floor else []
    if any(one["quartets"] == 1 for one in [*floor, *(each["delivery_latency_p50_ratio"] for each in comparisons)]):
        reasons.append("one quartet gives no interval, of a ratio or of the noise floor: more with --quartets")
    reasons += [
        f"the noise floor is known no better than {ratio['low']:.3g} to {ratio['high']:.3g}×: more with --quartets"
        for ratio in floor
        if ratio["low"] is not None and not 1 / FLOOR_REACH <= ratio["low"] <= ratio["high"] <= FLOOR_REACH
    ]
    return [(Verdict.TOO_FEW, reason) for reason in reasons]


def _censored(backends: Mapping[str, Mapping[str, Any]], *, interrupted: bool) -> list[str]:
    reasons = ["the run was stopped before its plan was played"] if interrupted else []
    for name, figures in backends.items():
        cut = figures["integrity"]["censored"]
        if cut:
            reasons.append(f"{counted(cut, 'stream')} of {name} {'was' if cut == 1 else 'were'} cut off in flight")
        if not any(count for kind, count in figures["integrity"].items() if kind != "censored"):
            reasons.append(f"no stream of {name} ended intact, so nothing was measured there")
    return reasons


def _generator(found: Evidence) -> list[str]:
    return _above(
        [
            (
                "p99 of all streams' start_lag",
                found.start_lag_p99_s,
                GENERATOR_SHARE * FIRST_TOKEN_OBJECTIVE_S,
                seconds,
            ),
            ("p99 of the generator's loop lag", found.loop_lag_p99_s, GENERATOR_SHARE * CHUNK_OBJECTIVE_S, seconds),
            ("the generator's share of a core", found.generator_cpu_share, GENERATOR_CPU, _as_share),
        ]
    )


def _beside(found: Evidence) -> list[str]:
    if not found.other_loads:
        return []
    return [
        f"{counted(found.other_loads, 'other load')} of streamgauge ran on this machine: measure one after the other"
    ]


def _noise(found: Evidence, backends: Mapping[str, Mapping[str, Any]]) -> list[str]:
    backwards = [
        (
            f"share of {name}'s chunks received before they were produced",
            _backwards(figures),
            BELOW_ZERO_SHARE,
            _as_share,
        )
        for name, figures in backends.items()
    ]
    return _above(
        [
            ("processor time stolen by other machines", found.steal_share, STEAL, _as_share),
            ("share of the processor time that other programs took", found.others_share, OTHERS, _as_share),
            ("share of time something waited for a processor", found.cpu_pressure_share, PRESSURE, _as_share),
            ("step of the wall clock during the run", found.clock_step_s, CLOCK_STEP_S, seconds),
            ("smallest step that the clock shows", found.clock_resolution_s, CLOCK_RESOLUTION_S, seconds),
            ("bound of the clocks' offset between the hosts", found.clock_bound_s, CLOCK_BOUND_S, seconds),
            ("drift between the hosts' clocks during the run", found.clock_drift_s, CLOCK_STEP_S, seconds),
            *backwards,
        ]
    )


def _floor(noise_floor: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    ratio = noise_floor["p50"] if noise_floor else None
    if ratio is None or ratio["low"] is None or ratio["low"] <= 1 <= ratio["high"]:
        return []
    if 1 / NOISE_FLOOR <= ratio["estimate"] <= NOISE_FLOOR:
        return []
    interval = f"{ratio['low']:.3g} to {ratio['high']:.3g}"
    return [f"the same backend measured twice differed by {ratio['estimate']:.3g}× (95 % interval {interval})"]


def _above(limits: Sequence[tuple[str, float | None, float, Callable[[float], str]]]) -> list[str]:
    return [
        f"{what} was {said(value)}, above {said(limit)}"
        for what, value, limit, said in limits
        if value is not None and value > limit
    ]


def _as_share(value: float) -> str:
    return f"{value:.4g}"


def _backwards(figures: Mapping[str, Any]) -> float | None:
    latency = figures["delivery_latency_s"]
    return latency["below_zero"] / latency["count"] if latency["count"] else None


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else part / whole
