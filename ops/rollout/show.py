"""A rollout in words."""

from collections.abc import Iterator

from ops.rollout.guard import Objective
from ops.rollout.judge import Check, Verdict, shown
from ops.rollout.state import Judgement, Phase, State


def lines(judgement: Judgement) -> list[str]:
    """Say one judgement: a line with its figures, and one for each reason why it did not pass."""
    head = (
        f"{judgement.at[11:19]}  {judgement.percent:>4g} %  {judgement.verdict:<5}{judgement.seconds:>6.1f} s  "
        f"beside {judgement.beside}: {judgement.decision}"
    )
    if judgement.verdict is Verdict.PASS:
        return [head, f"    {' · '.join(map(_figure, judgement.checks))}"]
    return [head, *(f"    {check.reason}" for check in judgement.checks if check.verdict is judgement.verdict)]


def status(state: State, judgements: list[Judgement]) -> Iterator[str]:
    """Say how a rollout stands, and how it came to that."""
    steps = ", ".join(f"{step:g}" for step in state.steps)
    yield f"{state.candidate} beside {state.baseline}, steps {steps} %, judged every {state.interval_s:g} s"
    for judgement in judgements:
        yield from lines(judgement)
    yield f"{state.phase} at {state.percent:g} %, generation {state.generation}{f': {state.why}' if state.why else ''}"
    if state.phase is Phase.WATCHING and state.following in state.guard.gates:
        yield f"{state.following:g} % has a gate: streamgauge rollout --approve"
    if not state.is_over:
        yield "If nobody carries it on: streamgauge rollout --resume"


def _figure(check: Check) -> str:
    objective = Objective(check.objective)
    beside = "" if check.baseline is None else f" ({shown(objective, check.baseline)})"
    return f"{check.objective} {shown(objective, check.value)}{beside}"
