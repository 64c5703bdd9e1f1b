"""The command: which system to examine, how to show the findings, and the exit code."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from app.settings import load_settings
from ops.doctor.examination import Subject, examine
from ops.doctor.finding import Finding, Severity
from ops.usage import UsageError

EXITS = {Severity.ERROR: 1, Severity.WARNING: 3}
MARKS = {
    Severity.OK: "[green]✓[/]",
    Severity.NOTE: "[blue]·[/]",
    Severity.WARNING: "[yellow]![/]",
    Severity.ERROR: "[bold red]✗[/]",
}

commands = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@commands.command()
def doctor(
    api: Annotated[
        list[str] | None, typer.Option(help="URL of an API, repeatable; a message of the doctor's own is sent to each.")
    ] = None,
    worker: Annotated[list[str] | None, typer.Option(help="URL of a worker's metrics page, repeatable.")] = None,
    through: Annotated[str, typer.Option(help="URL of a proxy before the first API: does it hold chunks back?")] = "",
    repair: Annotated[bool, typer.Option("--repair", help="Mend the messages that wait in vain.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON document.")] = False,
) -> None:
    """Examine the system that DATABASE_URL, REDIS_URL, BROKER_URL and OPENAI_BASE_URL name.

    Exit code: 0 nothing to do, 1 messages fail, wait or are lost, 2 usage, 3 warnings only.
    """
    if through and not api:
        raise UsageError("--through needs --api: what comes through the proxy is held against what the API sends.")
    apis = tuple(url.rstrip("/") for url in api or ())
    for url in (*apis, *(worker or ()), *([through] if through else [])):
        if not url.startswith(("http://", "https://")):
            raise UsageError(f"{url!r} is no URL: write it out, as in http://127.0.0.1:8000.")
    subject = Subject(load_settings(), apis, tuple(worker or ()), through.rstrip("/"), repair)
    with _no_warnings("app.streaming"):  # what it would warn of is found and said below
        found = asyncio.run(examine(subject))
    code = exit_code(found)
    if as_json:
        typer.echo(json.dumps({"exit_code": code, "findings": [each.as_json() for each in found]}, indent=1))
    else:
        _show(found)
    raise typer.Exit(code)


@contextlib.contextmanager
def _no_warnings(name: str) -> Iterator[None]:
    """Let a logger tell errors alone in the block."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def exit_code(found: Sequence[Finding]) -> int:
    """Give the exit code of the worst finding."""
    worst = {finding.severity for finding in found}
    return next((code for severity, code in EXITS.items() if severity in worst), 0)


def _show(found: Sequence[Finding]) -> None:
    width = max(len(finding.check) for finding in found)
    for finding in found:
        console.print(
            f"  {MARKS[finding.severity]} {escape(finding.check):<{width}}  {escape(finding.finding)}", soft_wrap=True
        )
        if finding.fix:
            console.print(f"    [dim]{escape(finding.evidence)}[/]", soft_wrap=True)
            console.print(f"    → {escape(finding.fix)}", soft_wrap=True)
    console.print(summary(found), soft_wrap=True, markup=False)


def summary(found: Sequence[Finding]) -> str:
    """Say where to begin: checks go from what all others need to what needs them."""
    worst_first = [
        finding.check for level in (Severity.ERROR, Severity.WARNING) for finding in found if finding.severity is level
    ]
    if not worst_first:
        return f"{len(found)} checks, all is well."
    begin = f"{len(found)} checks, {len(worst_first)} to act on"
    if len(worst_first) == 1:
        return f"{begin}: {worst_first[0]}."
    return f"{begin}. Begin with {worst_first[0]}: others may follow from it."
