"""Moves the flag step by step, judges each, and moves it back after failures in a row.

It fails static: while it is away, or its source or the database is, nothing changes. What it is about to do is written
down before it does it, so a controller that was killed at any instant finds out from the flag in force what was done.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from ops.rollout.figures import Figures, Scrape, figures_of, grown
from ops.rollout.judge import Beside, Check, Judged, Verdict, has_enough, judge
from ops.rollout.show import lines
from ops.rollout.sources import HOW_TO_SEE, Source, SourceError
from ops.rollout.state import Journal, Judgement, Phase, State

RETRY_S = 2.0
"""Between two tries to move the flag while the database is away."""
HOW_TO_GO_ON = f"{HOW_TO_SEE} (Ctrl-C, then `streamgauge rollout --resume` with it); the flag stays where it is"
LOOK_EVERY_S = 0.2
"""While a gate is closed."""


class FlagAwayError(Exception):
    """The flag can't be read or moved now, and nothing was changed."""


class FlagTakenError(Exception):
    """Somebody else has changed the flag since; nothing was changed. The message says who, if that is known."""


class Flag(Protocol):
    """The flag, as far as a rollout moves it. Both raise `FlagAwayError`."""

    def look(self) -> tuple[int, float]:
        """Give the generation in force, and the percentage of new messages that it gives to the candidate."""

    def move(self, percent: float, generation: int, why: str) -> int:
        """Give so much to the candidate and the rest to the baseline; `why` is for the record.

        Raises `FlagTakenError` if `generation` is not the one in force. Answers the new one.
        """


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rollout speaks to."""

    flag: Flag
    source: Source
    journal: Journal
    say: Callable[[str], None]
    tell: Callable[..., None]
    """Events for webhooks."""
    is_open: Callable[[State, float], bool]
    """Whether the gate of a step was approved; asked again and again."""
    show: Callable[[State, Judgement | None], None]
    """How it stands, with the last judgement, for people to see; it neither fails nor takes time."""
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class Controller:
    """One rollout, from where its state is to its end."""

    def __init__(self, state: State, around: Surroundings) -> None:
        self._state, self._around = state, around
        self._asked = 0.0
        self._last = next(reversed(around.journal.judgements()), None)

    def run(self) -> Phase:
        """Go on until the end, and give it."""
        state = self._state
        self._show()
        while not state.is_over:
            try:
                self._turn()
            except FlagTakenError as error:
                self._end(Phase.TAKEN, f"{error} This rollout leaves it alone.")
        return state.phase

    def _turn(self) -> None:
        if self._state.phase is Phase.STEPPING:
            self._move(self._state.percent, f"step {self._state.percent:g} % of {self._state.candidate}")
            self._begin_step()
        elif self._state.phase is Phase.RETURNING:
            self._move(0.0, self._state.why)
            self._end(Phase.ROLLED_BACK, f"Rolled back to {self._state.baseline}: {self._state.why}")
        else:
            self._watch()

    def _move(self, percent: float, why: str) -> None:
        """Move the flag, unless that was done before a kill; try again for as long as the database is away."""
        state, was_away = self._state, False
        while True:
            try:
                generation, standing = self._around.flag.look()
                if generation == state.generation or standing != percent:
                    generation = self._around.flag.move(percent, state.generation, why)
            except FlagAwayError as error:
                if not was_away:
                    self._around.say(f"the flag can't be moved now, trying on: {error}")
                was_away = True
                self._around.sleep(RETRY_S)
            else:
                state.generation = generation
                return

    def _begin_step(self) -> None:
        state = self._state
        state.phase, state.began_s, state.passes, state.failures = Phase.WATCHING, self._around.now(), 0, 0
        self._keep()
        self._around.say(
            f"step {state.percent:g} %: generation {state.generation}; judging after {state.guard.cooldown_s:g} s"
        )
        self._around.tell("step", **self._facts())

    def _watch(self) -> None:
        """Judge intervals until the step is over. One that had too few samples is joined with the next."""
        state = self._state
        self._around.sleep(max(0.0, state.began_s + state.guard.cooldown_s - self._around.now()))
        before = self._scrape()
        while state.phase is Phase.WATCHING:
            self._around.sleep(state.interval_s)
            after = self._scrape()
            judged, whose, seconds = self._judged(before, after)
            if not judged.few:
                before = after
            self._check_flag()
            self._decide(judged, whose, seconds)

    def _scrape(self) -> tuple[float, Scrape | str]:
        """Read all counters, or why that can't be done."""
        try:
            return self._around.now(), self._around.source()
        except SourceError as error:
            return self._around.now(), str(error)

    def _judged(
        self, before: tuple[float, Scrape | str], after: tuple[float, Scrape | str]
    ) -> tuple[Judged, str, float]:
        (began, earlier), (ended, later) = before, after
        if isinstance(earlier, str) or isinstance(later, str):
            why = later if isinstance(later, str) else earlier
            away = Check("source", Verdict.HOLD, f"{why}; {HOW_TO_GO_ON}")
            return Judged(Verdict.HOLD, (away,)), "nothing", ended - began
        growth = grown(earlier, later)
        beside = self._beside(figures_of(self._state.baseline, growth))
        judged = judge(self._state.guard, figures_of(self._state.candidate, growth), beside)
        return judged, beside.whose, ended - began

    def _beside(self, baseline: Figures) -> Beside:
        """Choose what the candidate is held against: the baseline of now, or what is left of it at 100 %."""
        state = self._state
        if state.percent < 100:
            if has_enough(state.guard, baseline):
                state.last_baseline, state.last_baseline_at = baseline, _moment(self._around.now())
            return Beside(baseline, f"{state.baseline} now")
        if state.last_baseline is not None:
            whose = f"{state.baseline} as it last was, at {state.last_baseline_at}"
            return Beside(state.last_baseline, whose, is_now=False)
        return Beside(None, "limits alone")

    def _check_flag(self) -> None:
        """Make sure that nobody else has changed the flag; while that can't be asked, go on."""
        try:
            generation, _ = self._around.flag.look()
        except FlagAwayError as error:
            self._around.say(f"the flag can't be read now: {error}")
            return
        if generation != self._state.generation:
            raise FlagTakenError(f"The flag is at generation {generation}, and was at {self._state.generation}.")

    def _decide(self, judged: Judged, whose: str, seconds: float) -> None:
        state = self._state
        if judged.verdict is Verdict.FAIL:
            state.failures, state.passes = state.failures + 1, 0
        elif judged.verdict is Verdict.PASS:
            state.failures, state.passes = 0, state.passes + 1
        decision = self._decision(judged)
        self._record(judged, whose, seconds, decision)
        self._keep()
        if state.phase is Phase.DONE or state.phase is Phase.HELD:
            self._end(state.phase, decision)

    def _decision(self, judged: Judged) -> str:
        """Change the state as the guard says, and say in words what was decided."""
        state, guard = self._state, self._state.guard
        if state.failures >= guard.failures:
            state.phase = Phase.RETURNING
            state.why = f"failed {state.failures} times at {state.percent:g} %: {'; '.join(judged.reasons)}"
            return f"back to {state.baseline}"
        if judged.verdict is Verdict.PASS and state.passes >= guard.passes:
            if state.following is None:
                state.phase = Phase.DONE
                return f"done: {state.candidate} has {state.percent:g} %"
            if self._gate_opens(state.following):
                state.position += 1
                state.phase = Phase.STEPPING
                return f"on to {state.percent:g} %"
            waiting = f"waits at the gate of {state.following:g} %"
        else:
            waiting = f"failure {state.failures} of {guard.failures}" if state.failures else "stays"
        if self._around.now() - state.began_s >= guard.limit_s:
            state.phase = Phase.HELD
            return f"held at {state.percent:g} %: {guard.limit_s:g} s were not enough to go on; nothing is changed"
        return waiting

    def _gate_opens(self, percent: float) -> bool:
        """Tell whether the next step may begin; a closed gate is looked at for an interval, then judging goes on."""
        if percent not in self._state.guard.gates:
            return True
        if self._asked != percent:
            self._asked = percent
            self._around.tell("gate", **{**self._facts(), "step": percent})
        self._show()
        until = self._around.now() + self._state.interval_s
        while not self._around.is_open(self._state, percent):
            if self._around.now() >= until:
                return False
            self._around.sleep(min(LOOK_EVERY_S, self._state.interval_s))
        return True

    def _record(self, judged: Judged, whose: str, seconds: float, decision: str) -> None:
        state = self._state
        percent = state.steps[state.position - 1] if state.phase is Phase.STEPPING else state.percent
        judgement = Judgement(
            at=_moment(self._around.now()),
            candidate=state.candidate,
            percent=percent,
            seconds=round(seconds, 3),
            verdict=judged.verdict,
            beside=whose,
            checks=judged.checks,
            decision=decision,
        )
        self._last = judgement
        self._around.journal.add(judgement)
        self._around.say("\n".join(lines(judgement)))
        facts = {**self._facts(), "step": percent}
        self._around.tell("judged", **facts, verdict=judged.verdict, reasons=judged.reasons, decision=decision)

    def _end(self, phase: Phase, why: str) -> None:
        self._state.phase, self._state.why = phase, why
        self._keep()
        self._around.say(why)
        self._around.tell(phase.replace(" ", "_"), **self._facts(), why=why)

    def _keep(self) -> None:
        self._around.journal.write(self._state)
        self._show()

    def _show(self) -> None:
        self._around.show(self._state, self._last)

    def _facts(self) -> dict[str, Any]:
        state = self._state
        return {
            "candidate": state.candidate,
            "baseline": state.baseline,
            "step": state.percent,
            "generation": state.generation,
        }


def _moment(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")
