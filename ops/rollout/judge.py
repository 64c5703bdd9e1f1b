"""Judges one interval: the candidate's figures against the baseline's of the same time, and against limits. Pure.

An objective is broken only beyond chance: a quantile above what is allowed means that more samples lie above it than
the quantile leaves room for, and a share that more happened than is allowed; either has to be so much more that it
comes about by chance less than once in a hundred intervals.
"""

import math
from enum import StrEnum

import msgspec

from ops.rollout.figures import Figures
from ops.rollout.guard import SHARES, Guard, Objective

CHANCE = 0.01


class Verdict(StrEnum):
    """What an interval says of the candidate. `hold` is neither: too little is known, and nothing changes."""

    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    HOLD = "hold"


class Check(msgspec.Struct, frozen=True):
    """One objective in one interval: what was found, and why that is what it is."""

    objective: str
    verdict: Verdict
    reason: str
    value: float | None = None
    baseline: float | None = None
    few: bool = False
    """It holds for want of samples."""


class Judged(msgspec.Struct, frozen=True):
    """All objectives in one interval."""

    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def few(self) -> bool:
        """Tell whether it wants for samples, which a longer interval brings."""
        return self.verdict is Verdict.HOLD and any(check.few for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """Say why it is that."""
        return [check.reason for check in self.checks if check.verdict is self.verdict]


def judge(guard: Guard, candidate: Figures, baseline: Figures | None, whose: str = "the baseline") -> Judged:
    """Judge an interval. Without a baseline limits alone hold; `whose` says which one it is."""
    lacking = [] if baseline is None else _lacking(guard, baseline, whose)
    checks = [
        _check(objective, guard, candidate, None if lacking else baseline, whose) for objective in guard.objectives
    ]
    found = [check for check in checks if check is not None]
    found += _lacking(guard, candidate, "the candidate") + lacking
    if not found:
        found.append(Check("", Verdict.HOLD, f"no objective has a limit, and there is nothing but {whose}"))
    verdicts = {check.verdict for check in found}
    verdict = next(verdict for verdict in (Verdict.FAIL, Verdict.HOLD, Verdict.PASS) if verdict in verdicts)
    return Judged(verdict, tuple(found))


def has_enough(guard: Guard, figures: Figures) -> bool:
    """Tell whether a backend had the streams and the chunks that the guard asks for."""
    return figures.streams >= guard.streams and figures.latency("delivery_latency").samples >= guard.chunks


def _lacking(guard: Guard, figures: Figures, whose: str) -> list[Check]:
    if has_enough(guard, figures):
        return []
    chunks = figures.latency("delivery_latency").samples
    seen = f"{figures.streams:.0f} of {guard.streams} streams, {chunks} of {guard.chunks} chunks"
    return [Check("minimum", Verdict.HOLD, f"{whose} has too few samples: {seen}", few=True)]


def _check(
    objective: Objective, guard: Guard, candidate: Figures, baseline: Figures | None, whose: str
) -> Check | None:
    """Hold one objective against all that can be said of it; None if that is nothing."""
    value, samples = _value(objective, candidate), _samples(objective, candidate)
    beside = None if baseline is None else _value(objective, baseline)
    allowed = None if beside is None else objective.allowed(beside)
    bounds = [
        (bound, f"{shown(objective, bound)} {words}")
        for bound, words in (
            (allowed, f"allowed beside {shown(objective, beside)} of {whose}"),
            (objective.limit, "at most"),
        )
        if bound is not None
    ]
    if not bounds:
        return None
    enough = guard.chunks if objective.what in ("delivery_latency", "repairs", "duplicates") else guard.streams
    if value is None or samples < enough:
        few = f"{objective.name}: {samples} of {enough} samples"
        return Check(objective.name, Verdict.HOLD, few, value, beside, few=True)
    bound, words = min(bounds)
    reason = f"{objective.name}: {shown(objective, value)}, {words}"
    if value <= bound:
        return Check(objective.name, Verdict.PASS, reason, value, beside)
    above, room = _excess(objective, candidate, bound)
    if chance_of(above, samples, room) > CHANCE:
        return Check(objective.name, Verdict.HOLD, f"{reason}: worse, by no more than chance", value, beside)
    return Check(objective.name, Verdict.FAIL, reason, value, beside)


def chance_of(above: float, samples: int, room: float) -> float:
    """Bound the chance that so many of the samples lie above, if each does with probability `room` (Chernoff)."""
    share = above / samples
    if share <= room:
        return 1.0
    if room == 0:
        return 0.0
    gain = share * math.log(share / room)
    loss = (1 - share) * math.log((1 - share) / (1 - room)) if share < 1 else 0.0
    return math.exp(-samples * (gain + loss))


def _value(objective: Objective, figures: Figures) -> float | None:
    if objective.quantile is not None:
        return figures.latency(objective.what).quantile(objective.quantile)
    whole = _samples(objective, figures)
    return figures.counts[objective.what] / whole if whole else None


def _samples(objective: Objective, figures: Figures) -> int:
    if objective.quantile is not None:
        return figures.latency(objective.what).samples
    whole = {"of the streams": figures.streams, "of the events": figures.events, "of the appends": figures.appended}
    return round(whole[SHARES[objective.what]])


def _excess(objective: Objective, figures: Figures, bound: float) -> tuple[float, float]:
    """Give how many samples break the bound, and the share that may."""
    if objective.quantile is not None:
        return figures.latency(objective.what).above(bound), 1 - objective.quantile
    return figures.counts[objective.what], bound


def shown(objective: Objective, value: float | None) -> str:
    """Write a value in the objective's unit."""
    if value is None:
        return "nothing"
    if objective.quantile is None:
        return f"{value:.3g} %" if value == 0 else f"{value * 100:.3g} %"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
