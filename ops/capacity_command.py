"""`streamgauge capacity`: the most concurrent streams that keep an objective, and the law that the points follow."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.settings import load_settings
from loadtest import objective
from loadtest.capacity_run import CapacityOptions, find_capacity
from loadtest.objective import EXAMPLE, Clause
from ops.display import Progress
from ops.measure import crash_interrupts, errors_say_what_to_do
from ops.options import ALL, chosen_backends
from ops.perf import allow_many_files
from ops.processes import StackError
from ops.signals import signals_interrupt
from ops.stack import StackOptions, running_stack
from ops.usage import UsageError

INTERRUPTED = 130

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def capacity(
    slo: Annotated[str, typer.Option(help="Conditions that all have to hold, with commas between them.")] = EXAMPLE,
    backends: Annotated[str, typer.Option(help="With commas between them, or all.")] = ALL,
    chunk_rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Chunks per second of one stream.")] = 20.0,
    stream_seconds: Annotated[
        float | None, typer.Option(min=0.1, max=3600, help="How long an answer takes (3, quick 1.5).")
    ] = None,
    window: Annotated[
        float | None, typer.Option(min=0.1, max=3600, help="Seconds for which a level is counted (5, quick 2).")
    ] = None,
    start: Annotated[int, typer.Option(min=1, help="The first level tried; then twice as many, and so on.")] = 10,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The highest level tried.")] = 1000,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter levels, and no second try of the edge.")] = False,
    target: Annotated[str | None, typer.Option(help="URL of a running system, measured instead of our own.")] = None,
    scripted: Annotated[
        bool, typer.Option("--scripted/--own-model", help="With --target: whether its model is the scripted one.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Repeat the plan of an earlier run.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that generate answers.")] = 1,
    apis: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve HTTP; one of them is measured.")] = 1,
    out: Annotated[Path, typer.Option(help="Where each run gets its folder.")] = Path("results"),
) -> None:
    """Find the most concurrent streams that keep an objective, for each backend, and fit the scalability law.

    Writes capacity.json, capacity.md and capacity.html to results/capacity-<time>/.
    """
    options = CapacityOptions(
        objective=_objective(slo),
        backends=chosen_backends(backends),
        quick=quick,
        chunk_rate=chunk_rate,
        stream_s=stream_seconds,
        window_s=window,
        start=min(start, limit),
        limit=limit,
        out=out,
        seed=seed,
        model="scripted" if scripted else None,
    )
    allow_many_files()
    try:
        with signals_interrupt():
            if target:
                with errors_say_what_to_do():
                    find_capacity(options, target, console)
            else:
                _of_our_own(
                    options, StackOptions(Path(".streamgauge/capacity"), workers, apis, port=0, keep_data=False)
                )
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED) from None


def _of_our_own(options: CapacityOptions, stack_options: StackOptions) -> None:
    known = {
        "polling_interval_s": load_settings().polling_interval_s,
        "workers": stack_options.workers,
        "apis": stack_options.apis,
    }
    console.print("Starting the system under test:")
    with Progress(console) as progress, running_stack(stack_options, progress.part) as stack:
        progress.finish()
        if not stack.scripted_model:
            raise StackError("OPENAI_BASE_URL names a real model, whose pace is not ours: unset it, or use --target.")
        with errors_say_what_to_do(), crash_interrupts(stack):
            find_capacity(options, stack.api_url, console, known)


def _objective(text: str) -> tuple[Clause, ...]:
    try:
        return tuple(objective.parse(text))
    except ValueError as error:
        raise UsageError(f"--slo: {error}.") from error
