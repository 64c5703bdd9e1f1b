"""`streamgauge chaos`: the faults under live load on a stack of its own, and the matrix of what they cost."""

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.markup import escape

from app.settings import load_settings
from ops.chaos.matrix import HEADINGS, Cell, markdown
from ops.chaos.run import Plan, run_chaos
from ops.chaos.scenarios import ALL, Scenario
from ops.display import Progress
from ops.options import ALL as ALL_BACKENDS
from ops.options import chosen_backends
from ops.signals import signals_interrupt
from ops.stack import StackOptions, running_stack
from ops.usage import UsageError, check_writable

FAILED, INTERRUPTED = 1, 130
SHOWN = 5
"""Complaints printed under a cell; the page of `--out` has them all."""
SETTINGS = {"STREAMGAUGE_ALLOWED_MODELS": "scripted*", "STREAMGAUGE_MODEL_STALL_S": "5"}
"""The stall ends sooner than by default, for the fault's sake; every other setting is the default."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def chaos(
    scenario: Annotated[
        list[str] | None,
        typer.Option(help="A fault to strike with, several times if you like; all of them if left out."),
    ] = None,
    streams: Annotated[int, typer.Option(min=1, max=2000, help="Live streams on each backend at each fault.")] = 50,
    backends: Annotated[str, typer.Option(help="With commas between them.")] = ALL_BACKENDS,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the matrix as Markdown, too.")] = None,
    folder: Annotated[Path, typer.Option(help="Where logs and data of the stack live.")] = Path(".streamgauge/chaos"),
    show: Annotated[bool, typer.Option("--list", help="Say what the faults are, and end.")] = False,
) -> None:
    """Strike a stack of its own with faults while streams run, and count what is lost: exit code 1 if anything is."""
    if show:
        for each in ALL:
            console.print(f"  {each.name:<16}{each.what}")
        return
    plan = _plan(scenario or [], backends, streams)
    if out is not None:
        check_writable(out)
    try:
        with signals_interrupt():
            cells = _run(plan, folder)
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED) from None
    if out is not None:
        out.write_text(markdown(cells, plan.scenarios, _heading(plan)))
        console.print(f"Written to {out}.")
    if not all(each.is_whole for each in cells):
        console.print("[bold red]Something was lost or repeated.[/]")
        raise typer.Exit(FAILED)
    console.print("Nothing was lost and nothing repeated.")


def _plan(names: list[str], backends: str, streams: int) -> Plan:
    known = {each.name: each for each in ALL}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"There is no fault {unknown[0]!r}: `streamgauge chaos --list` names them.")
    scenarios: tuple[Scenario, ...] = tuple(known[name] for name in names) or ALL
    return Plan(scenarios, chosen_backends(backends), load_settings().default_backend, streams)


def _run(plan: Plan, folder: Path) -> list[Cell]:
    options = StackOptions(
        folder, workers=2, apis=2, port=0, keep_data=False, own_broker=True, environment={**os.environ, **SETTINGS}
    )
    console.print("Starting the system that will suffer:")
    with Progress(console) as progress, running_stack(options, progress.part) as stack:
        progress.finish()
        console.print(f"\n{_row(HEADINGS)}", soft_wrap=True)
        with console.status("") as status:
            return run_chaos(stack, plan, status.update, _report)


def _report(found: Cell) -> None:
    console.print(_row(found.words), style="" if found.is_whole else "bold red", soft_wrap=True)
    for complaint in found.complaints[:SHOWN]:
        console.print(f"    {escape(complaint)}", soft_wrap=True)
    if len(found.complaints) > SHOWN:
        console.print(f"    … and {len(found.complaints) - SHOWN} more")


def _row(words: Sequence[str]) -> str:
    fault, backend, *counts = words
    aligned = (count.rjust(len(heading) + 1) for count, heading in zip(counts, HEADINGS[2:], strict=True))
    return f"{fault:<15}{backend:<9}{''.join(aligned)}"


def _heading(plan: Plan) -> list[str]:
    memory_gib = psutil.virtual_memory().total / 2**30
    return [
        "# What faults cost",
        "",
        f"Printed by `streamgauge chaos --streams {plan.streams}` on {time.strftime('%Y-%m-%d')}, every part on one "
        f"machine: {psutil.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}, Python "
        f"{platform.python_version()}.",
    ]
