"""`streamgauge perf`: what a chunk and an open stream cost and how far each backend goes, beside the floor."""

from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from app.settings import load_settings
from loadtest.bench.load import LoadError
from loadtest.bench.session import Plan, Results, measure, seconds_at_most
from loadtest.bench.tables import markdown
from ops.display import Progress
from ops.options import ALL, chosen_backends
from ops.perf import FLOOR, MOST_STREAMS, REFERENCE, running_systems
from ops.processes import StackError
from ops.signals import signals_interrupt
from ops.usage import UsageError, check_writable

INTERRUPTED = 130
FULL_STREAMS = "100,500,1000,1500,2000"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def perf(
    full: Annotated[
        bool, typer.Option("--full", help="Up to 2,000 streams, 5,000 idle ones, and the search: half an hour.")
    ] = False,
    streams: Annotated[
        str | None, typer.Option(help=f"Levels, with commas between them: 100, or {FULL_STREAMS} with --full.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Chunks per second of one stream.")] = 20.0,
    seconds: Annotated[
        float | None, typer.Option(min=0.5, help="Measured at each level: 3, or 10 with --full.")
    ] = None,
    idle: Annotated[
        int | None,
        typer.Option(min=0, max=MOST_STREAMS, help="Idle-ish streams, for their memory: 200, or 5000; 0: none."),
    ] = None,
    search: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_STREAMS, help="Look for the most streams with p99 < 50 ms, up to so many: 0, or 6400."
        ),
    ] = None,
    messages: Annotated[
        int | None,
        typer.Option(min=0, max=1000, help="Posted one at a time, for how a message begins: 20, or 100; 0: none."),
    ] = None,
    backends: Annotated[str, typer.Option(help="With commas between them.")] = ALL,
    reference: Annotated[
        bool, typer.Option("--reference/--no-reference", help="Measure the plain stack most teams would write, too.")
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write the tables as Markdown, and all points as .json; what there is so far, after each level.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where logs and data of the systems live.")] = Path(".streamgauge/perf"),
) -> None:
    """Measure every backend beside the floor and a plain reference stack, all on this machine, one load at a time."""
    chosen = chosen_backends(backends)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        check_writable(out)
    plan = Plan(
        streams=_levels(streams or (FULL_STREAMS if full else "100")),
        rate=rate,
        seconds=seconds or (10.0 if full else 3.0),
        idle=idle if idle is not None else 5000 if full else 200,
        search=search if search is not None else 6400 if full else 0,
        messages=messages if messages is not None else 100 if full else 20,
        polling_interval_s=load_settings().polling_interval_s,
    )
    try:
        with signals_interrupt():
            results = _run(plan, chosen, folder, out, reference=reference)
    except KeyboardInterrupt:
        kept = f" What was measured by then is in {out}." if out is not None and out.exists() else ""
        console.print(f"Interrupted; everything is stopped.{kept}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    text = _text(results)
    console.print(text if not console.is_terminal else Markdown(text), markup=False, soft_wrap=True)
    if out is not None:
        console.print(f"Written to {out} and {out.with_suffix('.json')}.", soft_wrap=True)


def _text(results: Results) -> str:
    return markdown(results, FLOOR, REFERENCE if REFERENCE in results.systems else None)


def _keep(out: Path | None, results: Results) -> None:
    """Write what there is so far."""
    if out is not None:
        out.write_text(_text(results))
        out.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(results)))


def _run(plan: Plan, backends: tuple[str, ...], folder: Path, out: Path | None, *, reference: bool) -> Results:
    guess = seconds_at_most(plan, len(backends) + 1 + reference)
    more = ", and then the search" if plan.search else ""
    console.print(f"Starting the systems; the loads take about {guess / 60:.1f} min{more}:")
    try:
        with (
            Progress(console) as progress,
            running_systems(folder, backends, reference=reference, announce=progress.part) as running,
        ):
            progress.finish()
            with console.status("") as status:
                note = status.update if console.is_terminal else console.print
                return measure(running.systems, plan, note, running.check, partial(_keep, out))
    except LoadError as error:
        raise StackError(str(error)) from error


def _levels(text: str) -> tuple[int, ...]:
    try:
        levels = tuple(int(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if not levels or not all(1 <= level <= MOST_STREAMS for level in levels):
        raise UsageError(f"--streams {text}: give numbers from 1 to {MOST_STREAMS}, as in 100,500.")
    return levels
