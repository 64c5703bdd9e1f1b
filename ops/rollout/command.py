"""`streamgauge rollout`: move new messages to a backend step by step, guarded."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.settings import load_settings
from app.streaming.backends import NAMES, offered
from ops.rollout.controller import Controller, FlagAwayError, Surroundings
from ops.rollout.display import Display
from ops.rollout.exposition import exposed
from ops.rollout.flag import SplitFlag, in_force
from ops.rollout.gates import Gates
from ops.rollout.guard import DEFAULT, duration, read_guard
from ops.rollout.show import status as status_lines
from ops.rollout.sources import HOW_TO_SEE, Source, SourceError, found_in, metrics_of, prometheus_at
from ops.rollout.state import Journal, Phase, State
from ops.rollout.webhooks import Webhooks
from ops.signals import signals_interrupt
from ops.usage import UsageError

EXITS = {Phase.DONE: 0, Phase.ROLLED_BACK: 1, Phase.HELD: 3, Phase.TAKEN: 3}
INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True, markup=False)


@dataclass(frozen=True, slots=True)
class Watch:
    """Where the figures come from, as the command line says it."""

    metrics: list[str]
    prometheus: str | None
    selector: str
    folder: Path

    def source(self) -> Source:
        """Open it; by default the processes of the stack that runs here."""
        if self.prometheus:
            return prometheus_at(self.prometheus, self.selector)
        return metrics_of(self.metrics or found_in(self.folder))


@app.command()
def rollout(
    candidate: Annotated[str | None, typer.Argument(help=f"One of: {', '.join(NAMES)}.")] = None,
    steps: Annotated[str, typer.Option(help="Percentages of new conversations, rising.")] = "1,10,50,100",
    interval: Annotated[str, typer.Option(help="How long a judgement looks, such as 60s.")] = "60s",
    guard: Annotated[
        Path, typer.Option(help="What the candidate has to keep.", show_default="a built-in one")
    ] = DEFAULT,
    baseline: Annotated[str, typer.Option(help="Who keeps the rest.", show_default="the flag's default")] = "",
    metrics: Annotated[
        list[str] | None,
        typer.Option(help="/metrics of each API and worker; those of `streamgauge up` in --folder if left out."),
    ] = None,
    prometheus: Annotated[str | None, typer.Option(help="Ask this Prometheus instead.")] = None,
    selector: Annotated[str, typer.Option(help='Of its series, such as job=~"chat-.*".')] = "",
    folder: Annotated[Path, typer.Option(help="Of the stack; the rollout is kept in its subfolder `rollout`.")] = Path(
        ".streamgauge"
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Carry the last one on, where its controller died.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the last one and all its judgements.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Begin in the place of an unfinished one.")] = False,
    approve: Annotated[bool, typer.Option("--approve", help="Open the gate before the next step.")] = False,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve the judgements as Prometheus metrics, for the page Rollout."),
    ] = None,
) -> None:
    """Move new messages to CANDIDATE step by step, judging each by the baseline that runs beside it.

    Exit code 0: all steps passed. 1: rolled back. 2: it could not begin. 3: neither, within the guard's `limit`, or
    somebody else moved the flag; the flag stays where it is. It needs DATABASE_URL, as `streamgauge flag` does.
    """
    journal = Journal(folder / "rollout")
    if status or approve:
        _look(journal, approve=approve)
        return
    watch = Watch(metrics or [], prometheus, selector, folder)
    with journal.held(), exposed(journal, metrics_port):
        if resume:
            state = _carried_on(journal)
        else:
            _check_finished(journal, anew=anew)
            state = _begun(candidate, steps, interval, guard, baseline)
        ended = _run(state, journal, watch, is_new=not resume)
    raise typer.Exit(EXITS[ended])


def _look(journal: Journal, *, approve: bool) -> None:
    state = journal.read()
    if state is None:
        raise UsageError(f"There was no rollout in {journal.folder}: begin one with `streamgauge rollout BACKEND`.")
    if not approve:
        for line in status_lines(state, journal.judgements()):
            console.print(line)
    elif state.is_over or state.following is None:
        raise UsageError("No step is left to approve: `streamgauge rollout --status` shows how it ended.")
    else:
        journal.approve(state.following)
        console.print(f"{state.following:g} % of {state.candidate} is approved.")


def _begun(candidate: str | None, steps: str, interval: str, guard: Path, baseline: str) -> State:
    settings = load_settings()
    names = offered(settings)
    if candidate is None:
        raise UsageError(f"Say who is to get the messages: `streamgauge rollout BACKEND`, one of {', '.join(names)}.")
    if candidate == baseline:
        raise UsageError(f"{candidate} can't be held against itself: name another --baseline, or leave it out.")
    for name in (candidate, baseline or candidate):
        if name not in names:
            raise UsageError(f"There is no backend {name!r} here: use one of {', '.join(names)}.")
    try:
        seconds = duration("--interval", interval)
    except ValueError as error:
        raise UsageError(str(error)) from error
    percents, rules = parsed_steps(steps), read_guard(guard)
    if idle := [gate for gate in rules.gates if gate not in percents[1:]]:
        raise UsageError(f"{guard}: gates: no step after the first is {idle[0]:g} %: write some of --steps {steps}.")
    try:
        beside = baseline or in_force(settings)
        generation, _ = SplitFlag(settings, candidate, beside).look()
    except FlagAwayError as error:
        raise UsageError(f"{error}. Set DATABASE_URL to the one the API uses.") from error
    if beside == candidate:
        raise UsageError(f"New messages go to {candidate} already: name another --baseline to hold it against.")
    return State(
        candidate=candidate,
        baseline=beside,
        steps=percents,
        interval_s=seconds,
        guard=rules,
        generation=generation,
    )


def _check_finished(journal: Journal, *, anew: bool) -> None:
    if anew:
        return
    before = journal.read()
    if before is not None and not before.is_over:
        raise UsageError(
            f"The rollout of {before.candidate} in {journal.folder} is unfinished, at {before.percent:g} %: "
            "`streamgauge rollout --resume` carries it on; --anew forgets it and begins this one."
        )


def parsed_steps(text: str) -> tuple[float, ...]:
    """Give the percentages. Raises `UsageError` unless they rise above 0, to 100 at most, in steps of 0.01."""
    try:
        steps = tuple(float(part) for part in text.split(","))
    except ValueError:
        steps = ()
    rise = all(before < after for before, after in zip((0.0, *steps), steps, strict=False))
    if any(step != round(step, 2) for step in steps):
        raise UsageError(f"--steps {text}: shares are percents in steps of 0.01, such as 0.01,1,10,100.")
    if not steps or not rise or steps[-1] > 100:
        raise UsageError(f"--steps {text}: write rising percentages, such as 1,10,50,100.")
    return steps


def _carried_on(journal: Journal) -> State:
    state = journal.read()
    if state is None or (state.is_over and state.phase is not Phase.HELD):
        raise UsageError("No rollout waits to be carried on: `streamgauge rollout --status` shows the last one.")
    if state.phase is Phase.HELD:
        state.phase, state.why = Phase.WATCHING, ""
    state.began_s = time.time()  # nobody watched meanwhile
    console.print(f"carrying on: {state.candidate} at {state.percent:g} %")
    return state


def _check_sight(source: Source) -> None:
    """Raise `UsageError` unless the figures can be had by which this rollout is to judge."""
    try:
        source()
    except SourceError as error:
        raise UsageError(f"{error}. The flag was not moved: {HOW_TO_SEE}.") from error


def _run(state: State, journal: Journal, watch: Watch, *, is_new: bool) -> Phase:
    settings, source = load_settings(), watch.source()
    if is_new:
        _check_sight(source)
        journal.begin(state)
    with (
        Webhooks(state.guard.webhooks, console.print) as webhooks,
        Display(settings.database_url, console.print, pooler=settings.database_pooler) as display,
    ):
        around = Surroundings(
            flag=SplitFlag(settings, state.candidate, state.baseline),
            source=source,
            journal=journal,
            say=console.print,
            tell=webhooks.tell,
            is_open=Gates(journal, webhooks, console.print).is_open,
            show=display.show,
        )
        try:
            with signals_interrupt():
                return Controller(state, around).run()
        except KeyboardInterrupt:
            display.stop()
            console.print(
                f"Stopped watching; the flag stays as it is. `streamgauge rollout --resume` carries on, "
                f"`streamgauge flag set {state.baseline}` goes back."
            )
            raise typer.Exit(INTERRUPTED) from None
