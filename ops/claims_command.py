"""`streamgauge claims`: what a migration guide claims of polling and pub/sub, beside what this machine shows."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ops.claims import ClaimsOptions, measure_claims
from ops.display import Progress
from ops.perf import MOST_STREAMS
from ops.signals import signals_interrupt

INTERRUPTED = 130
QUICK = ClaimsOptions(quick=True, seconds=3.0, limit=1000, close_enough=2.0)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def claims(
    quick: Annotated[
        bool, typer.Option("--quick", help="A few minutes: a short bench run, streams known to within twofold.")
    ] = False,
    num_conversations: Annotated[
        int | None, typer.Option(min=1, help="Conversations per backend in the bench run.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST_STREAMS, help="The most streams tried: 2000, or 1000 with --quick.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where each run gets its folder.")] = Path("results"),
    folder: Annotated[Path, typer.Option(help="Where logs and data of the system live.")] = Path(".streamgauge/claims"),
) -> None:
    """Measure what a guide claims of the move from polling to pub/sub: claim, measured, interval, confirmed or not.

    Writes claims.json and claims.md to results/claims-<time>/, beside the bench run they rest on.
    """
    chosen = replace(QUICK if quick else ClaimsOptions(), out=out, num_conversations=num_conversations)
    if limit is not None:
        chosen = replace(chosen, limit=limit)
    console.print("Starting the system under test:")
    try:
        with signals_interrupt(), Progress(console) as progress:
            written = measure_claims(chosen, folder, console, progress.part)
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    console.print(f"Written to {written}.", soft_wrap=True)
