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


class Beside(msgspec.Struct, frozen=True):
    """What the candidate is held against, and what to call it. Without figures limits alone hold."""

    figures: Figures | None
    whose: str
    is_now: bool = True
    """Of the same time. What is not can't tell a bad candidate from a bad moment: it holds, and rolls nothing back."""


def judge(guard: Guard, candidate: Figures, beside: Beside) -> Judged:
    """Judge an interval."""
    lacking = [] if beside.figures is None else _lacking(guard, beside.figures, beside.whose)
    known = msgspec.structs.replace(beside, figures=None) if lacking else beside
    checks = [_check(objective, guard, candidate, known) for objective in guard.objectives]
    found = [check for check in checks if check is not None]
    found += _lacking(guard, candidate, "the candidate") + lacking
    if not found:
        found.append(Check("", Verdict.HOLD, f"no objective has a limit, and there is nothing but {beside.whose}"))
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


def _check(objective: Objective, guard: Guard, candidate: Figures, beside: Beside) -> Check | None:
    """Hold one objective against its limit, then against the other backend; None if neither says anything."""
    value, samples = _value(objective, candidate), _samples(objective, candidate)
    other = None if beside.figures is None else _value(objective, beside.figures)
    allowed = None if other is None else objective.allowed(other)
    if allowed is None and objective.limit is None:
        return None
    enough = guard.chunks if objective.what in ("delivery_latency", "repairs", "duplicates") else guard.streams
    if value is None or samples < enough:
        few = f"{objective.name}: {samples} of {enough} samples"
        return Check(objective.name, Verdict.HOLD, few, value, other, few=True)
    verdict, reason = Verdict.PASS, f"{objective.name}: {shown(objective, value)}"
    if objective.limit is not None:
        verdict = _held_to(objective, candidate, objective.limit)
        words = f"{shown(objective, objective.limit)} at most"
    if allowed is not None and verdict is Verdict.PASS:
        verdict = _held_to(objective, candidate, allowed)
        words = f"{shown(objective, allowed)} allowed beside {shown(objective, other)} of {beside.whose}"
        if verdict is Verdict.FAIL and not beside.is_now:
            return Check(objective.name, Verdict.HOLD, f"{reason}, {words}: it may be the time", value, other)
    if verdict is Verdict.HOLD:
        words += ": worse, by no more than chance"
    return Check(objective.name, verdict, f"{reason}, {words}", value, other)


def _held_to(objective: Objective, candidate: Figures, bound: float) -> Verdict:
    value, samples = _value(objective, candidate), _samples(objective, candidate)
    if value is None or value <= bound:
        return Verdict.PASS
    above, room = _excess(objective, candidate, bound)
    return Verdict.HOLD if chance_of(above, samples, room) > CHANCE else Verdict.FAIL


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
