"""Two saved runs side by side: ratios with intervals, and whether they allow a conclusion. Pure.

Two runs are two occasions: besides the code, the machine's mood differs, and the interval of a ratio between runs knows
only the spread within each. The ratio of two backends *within* a run carries over better, so its change is compared
as well, and between two machines nothing else is. It is not free of the mood either: polling waits for a timer and
pub/sub for the processor, so one code on a busy and on an idle machine showed ratios twofold apart, both runs VALID.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from loadtest import summary
from loadtest.document import Ratio, Result
from loadtest.stats import MOST_QUARTETS, log_ratio_interval, quartets_to_tell, welch_log_ratio
from loadtest.verdict import Verdict
from loadtest.wording import counted

# A run of another shape measures something else; of another machine, only ratios carry over.
SHAPE = ("scenario", "quick", "chunk_rate", "num_conversations", "trace", "time_scale", "polling_interval_s")
MACHINE = ("cpu", "cores", "architecture")


class Outcome(StrEnum):
    """What one check says. Only the bound of an interval makes a regression."""

    PASS = "pass"  # noqa: S105 - not a password
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


class Change(msgspec.Struct, frozen=True):
    """after ÷ before of one metric; above 1, it got slower. `what` is a backend, or `candidate ÷ baseline`."""

    what: str
    metric: str
    before: float | None
    after: float | None
    ratio: Ratio


class Check(msgspec.Struct, frozen=True):
    """One line of a gate: its outcome and the sentence that says why."""

    name: str
    outcome: Outcome
    why: str


def changes(before: Result, after: Result, metrics: Sequence[str] = tuple(summary.UNITS)) -> list[Change]:
    """Every metric of every backend that both runs have, and of every ratio of backends that both have."""
    found = []
    for name in (name for name in before.backends if name in after.backends):
        for metric in metrics:
            units = [one.backends[name].by_quartet.get(metric, []) for one in (before, after)]
            found.append(_change(name, metric, *(_logs(one) for one in units)))
    compared = _pairs(after)
    for pair in (pair for pair in _pairs(before) if pair in compared):
        what = " ÷ ".join(pair)
        found += [
            _change(what, metric, *(_between(one, pair, metric) for one in (before, after))) for metric in metrics
        ]
    return found


def only(run: Result, names: Sequence[str]) -> Result:
    """The run as if it had measured these backends alone."""
    kept = {name: figures for name, figures in run.backends.items() if name in names}
    pairs = [one for one in run.comparisons if {one.candidate, one.baseline} <= set(names)]
    return msgspec.structs.replace(run, backends=kept, comparisons=pairs)


def differences(before: Result, after: Result) -> dict[str, list[str]]:
    """What else differs between the runs: of their `shape`, and of the `machine` they ran on."""
    return {
        "shape": _differing(before.settings, after.settings, SHAPE),
        "machine": _differing(before.machine, after.machine, MACHINE),
    }


def gate(before: Result, after: Result, metrics: Sequence[str], allowed: float) -> list[Check]:
    """The checks: runs that can be trusted and compared, streams intact, and no metric worse than `allowed`."""
    unlike = differences(before, after)
    checks = [_trusted("baseline", before), _trusted("this run", after, is_judged=True)]
    checks.append(_like(unlike["shape"]))
    checks += [_intact(name, before, after) for name in before.backends]
    found = changes(before, after, metrics)
    if unlike["machine"]:
        found = [one for one in found if "÷" in one.what]
        if not found:
            why = f"another machine ({'; '.join(unlike['machine'])}) and no pair of backends to compare within each run"
            checks.append(Check("machine", Outcome.INCONCLUSIVE, why))
    return [*checks, *(_allowed(one, allowed) for one in found)]


def outcome(checks: Sequence[Check]) -> Outcome:
    """Of all checks: untrusted or unlike runs conclude nothing; then one regression is a regression."""
    if any(one.outcome is Outcome.INCONCLUSIVE for one in checks if one.name in _GROUNDS):
        return Outcome.INCONCLUSIVE
    present = {one.outcome for one in checks}
    return next((one for one in (Outcome.REGRESSION, Outcome.INCONCLUSIVE) if one in present), Outcome.PASS)


_GROUNDS = ("verdict of baseline", "verdict of this run", "same load")


def _change(what: str, metric: str, before: Sequence[float], after: Sequence[float]) -> Change:
    ratio = msgspec.convert(welch_log_ratio(before, after), Ratio)
    middle = [log_ratio_interval(one)["estimate"] for one in (before, after)]
    return Change(what, metric, middle[0], middle[1], ratio)


def _logs(units: Sequence[float | None]) -> list[float]:
    return [math.log(value) for value in units if value is not None]


def _between(run: Result, pair: tuple[str, str], metric: str) -> list[float]:
    candidate, baseline = (run.backends[name].by_quartet.get(metric, []) for name in pair)
    return summary.log_ratios(baseline, candidate)


def _pairs(run: Result) -> list[tuple[str, str]]:
    return [(one.candidate, one.baseline) for one in run.comparisons]


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [
        f"{name} was {_named(before.get(name))} and is {_named(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _named(value: Any) -> str:
    known = {None: "not given", True: "on", False: "off"}
    return known[value] if value is None or isinstance(value, bool) else str(value)


def _trusted(name: str, run: Result, *, is_judged: bool = False) -> Check:
    if run.verdict is Verdict.VALID:
        return Check(f"verdict of {name}", Outcome.PASS, "VALID")
    if run.verdict is Verdict.BROKEN and is_judged:
        # Whatever else it was: streams that broke need no interval.
        return Check(f"verdict of {name}", Outcome.REGRESSION, "; ".join(run.verdict_reasons))
    return Check(f"verdict of {name}", Outcome.INCONCLUSIVE, f"{run.verdict.value}: {'; '.join(run.verdict_reasons)}")


def _like(unlike: Sequence[str]) -> Check:
    if not unlike:
        return Check("same load", Outcome.PASS, "the same settings")
    return Check("same load", Outcome.INCONCLUSIVE, f"another load: {'; '.join(unlike)}: run with the same options")


def _intact(name: str, before: Result, after: Result) -> Check:
    check = f"{name} intact"
    if name not in after.backends:
        return Check(check, Outcome.INCONCLUSIVE, "not measured in this run: give it with --backends")
    was, now = ((one.backends[name].integrity.intact, one.backends[name].streams) for one in (before, after))
    said = f"{now[0]} of {counted(now[1], 'stream')} intact, {was[0]} of {was[1]} in the baseline"
    # A stream is whole or it is not: where none may break, one that did needs no interval.
    broke = now[0] * was[1] < was[0] * now[1]
    return Check(check, Outcome.REGRESSION if broke else Outcome.PASS, said)


def _allowed(one: Change, allowed: float) -> Check:
    name = f"{one.what} {one.metric}"
    if one.ratio.estimate is None or one.ratio.low is None or one.ratio.high is None:
        return Check(
            name, Outcome.INCONCLUSIVE, "fewer than two quartets in a run, so no interval: run without --quick"
        )
    said = f"{one.ratio.estimate:.3g}× the baseline (95 % interval {one.ratio.low:.3g} to {one.ratio.high:.3g})"
    if one.ratio.low > allowed:
        return Check(name, Outcome.REGRESSION, f"{said}: all of it above the allowed {allowed:g}×")
    if one.ratio.high <= allowed:
        return Check(name, Outcome.PASS, f"{said}: all of it within the allowed {allowed:g}×")
    return Check(
        name, Outcome.INCONCLUSIVE, f"{said}: the allowed {allowed:g}× lies inside; {_more(one.ratio, allowed)}"
    )


def _more(ratio: Ratio, allowed: float) -> str:
    """What would decide it."""
    needed = quartets_to_tell(ratio.estimate or 1.0, ratio.high or 1.0, ratio.quartets, allowed)
    if needed is None:
        return f"more than {MOST_QUARTETS} quartets in each run would be needed to tell: choose another --allow"
    return f"about {needed} quartets in each run would tell (bench --quartets {needed})"
