"""The commands around saved runs: `compare`, `gate` and `report`."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from loadtest import bench_page, capacity, capacity_page, comparison_report, document, summary
from loadtest import compare as comparing
from loadtest.misfit import misfit
from ops.usage import USAGE, check_writable

REGRESSION, INCONCLUSIVE = 1, 3
EXITS = {
    comparing.Outcome.PASS: 0,
    comparing.Outcome.REGRESSION: REGRESSION,
    comparing.Outcome.INCONCLUSIVE: INCONCLUSIVE,
}
GATED = ("delivery_latency.p50", "overhead_ttft.p50")
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(add_completion=False)


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="result.json (or the folder) of a run.")],
    after: Annotated[Path, typer.Argument(help="The same of the run to set against it.")],
) -> None:
    """Print how a saved run differs from another: ratios with intervals, and what else was not the same."""
    first, second = _read(before), _read(after)
    comparison_report.show_runs(first, second, comparing.differences(first, second), console)
    comparison_report.show_changes(comparing.changes(first, second), console)


@app.command()
def gate(
    baseline: Annotated[Path, typer.Option(help="result.json (or the folder) of the run to hold against.")],
    run: Annotated[Path, typer.Option(help="The run to judge.")] = Path("results/latest"),
    allow: Annotated[float, typer.Option(min=1.0, help="How many times the baseline a metric may be.")] = 1.25,
    metric: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(summary.UNITS)}; repeatable.")] = None,
    backends: Annotated[
        str | None, typer.Option(help="Judge these alone, with commas between them; all of the baseline's otherwise.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a summary for a pull request here.")] = None,
) -> None:
    """Judge a run by a baseline, for CI: exit 0 passed, 1 regression, 2 usage, 3 inconclusive or invalid.

    A metric is a regression only when the whole interval of its ratio lies above --allow.
    """
    metrics = metric or list(GATED)
    if unknown := [one for one in metrics if one not in summary.UNITS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: give one of {', '.join(summary.UNITS)}", param_hint="--metric")
    for page in (junit, markdown):
        if page is not None:
            check_writable(page)
    with _no_crash_is_a_regression():
        before = _judged(_read(baseline), backends)
        checks = comparing.gate(before, _read(run), metrics, allow)
        comparison_report.show_checks(checks, console)
        comparison_report.write(checks, junit, markdown)
    raise typer.Exit(EXITS[comparing.outcome(checks)])


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or its result.json or capacity.json.")],
) -> None:
    """Write the page of a saved run anew: plots, tables, verdict and how to repeat it, in one file."""
    searched = run / "capacity.json" if run.is_dir() else run
    if searched.name == "capacity.json" and searched.exists():
        written = capacity_page.write(_search(searched), searched.parent)
    else:
        _read(run)  # what is no result of this version is refused by name
        file = run / "result.json" if run.is_dir() else run
        written = bench_page.write_report(json.loads(file.read_text(encoding="utf-8")), file.parent)
    console.print(f"Written to {written}.")


def _judged(baseline: document.Result, backends: str | None) -> document.Result:
    """What of the baseline is to be held against."""
    if backends is None:
        return baseline
    names = [name.strip() for name in backends.split(",")]
    if missing := [name for name in names if name not in baseline.backends]:
        known = ", ".join(baseline.backends)
        raise typer.BadParameter(f"{', '.join(missing)}: the baseline has {known}", param_hint="--backends")
    return comparing.only(baseline, names)


@contextlib.contextmanager
def _no_crash_is_a_regression() -> Iterator[None]:
    """Turn whatever goes wrong into one line and the exit of wrong usage: CI would read Python's 1 as a regression."""
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except Exception as error:
        said = escape(f"nothing was judged ({type(error).__name__}: {error})")
        errors.print(f"[bold red]streamgauge:[/] {said}: mend that, or make both runs anew with one version.")
        raise typer.Exit(USAGE) from error


def _search(file: Path) -> capacity.Document:
    data = file.read_bytes()
    try:
        return capacity.read(data)
    except msgspec.ValidationError:
        said = f"{file} is no search of this version ({misfit(msgspec.json.decode(data), capacity.Document)})"
    except msgspec.DecodeError as error:
        said = f"{file} is no whole JSON file ({error})"
    errors.print(f"[bold red]streamgauge:[/] {escape(said)}: run 'streamgauge capacity' anew.")
    raise typer.Exit(USAGE)


def _read(path: Path) -> document.Result:
    try:
        return document.read(path)
    except document.DocumentError as error:
        errors.print(f"[bold red]streamgauge:[/] {escape(str(error))}")
        raise typer.Exit(USAGE) from error
