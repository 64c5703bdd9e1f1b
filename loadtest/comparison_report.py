"""What `compare` and `gate` print and write: tables for people, JUnit XML for CI, Markdown for a pull request."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as xml  # noqa: N813 - it writes only

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.compare import Change, Check, Outcome, outcome
from loadtest.document import Result
from loadtest.wording import seconds

COLOURS = {Outcome.PASS: "green", Outcome.REGRESSION: "red", Outcome.INCONCLUSIVE: "yellow"}

MIDDLE = (
    "Geometric means of the quartets' percentiles; a report's own are of all streams at once, so they differ a little."
)


def show_runs(before: Result, after: Result, unlike: Mapping[str, Sequence[str]], console: Console) -> None:
    """What to know before the figures: the verdicts, what else differs, and what only one run has measured.

    A figure of a run that is not valid should convince nobody.
    """
    for name, run in (("before", before), ("after", after)):
        console.print(f"{name}: {run.made_at}, verdict {run.verdict.value}")
        for reason in run.verdict_reasons:
            console.print(f"  {escape(reason)}")
    for kind, sentences in unlike.items():
        for sentence in sentences:
            console.print(f"[yellow]not the same {kind}:[/] {escape(sentence)}")
    for name, run, other in (("before", before, after), ("after", after, before)):
        if alone := [one for one in run.backends if one not in other.backends]:
            console.print(f"[yellow]only {name} has:[/] {escape(', '.join(alone))}, which are not compared")


def show_changes(found: Sequence[Change], console: Console) -> None:
    """after ÷ before with intervals."""
    table = Table(
        title="after ÷ before; above 1 is slower", title_justify="left", caption=MIDDLE, caption_justify="left"
    )
    for heading in ("", "before", "after", "ratio", "95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for what, group in groupby(found, key=lambda one: one.what):
        table.add_row(f"[bold]{escape(what)}[/]")
        for one in group:
            table.add_row(f"  {one.metric}", *_cells(one))
    console.print(table)


def show_checks(checks: Sequence[Check], console: Console) -> None:
    """One line per check, and the outcome of all."""
    for one in checks:
        console.print(f"[{COLOURS[one.outcome]}]{one.outcome.value:>12}[/]  {escape(one.name)}: {escape(one.why)}")
    whole = outcome(checks)
    console.print(f"gate: [bold {COLOURS[whole]}]{whole.value}[/]")


def junit(checks: Sequence[Check]) -> bytes:
    """A regression is a failure, an inconclusive check an error: CI shows neither as passed."""
    kinds = {Outcome.REGRESSION: "failure", Outcome.INCONCLUSIVE: "error"}
    count = {kind: str(sum(one.outcome is found for one in checks)) for found, kind in kinds.items()}
    suite = xml.Element(
        "testsuite",
        {"name": "streamgauge gate", "tests": str(len(checks)), "failures": count["failure"], "errors": count["error"]},
    )
    for one in checks:
        case = xml.SubElement(suite, "testcase", {"classname": "streamgauge.gate", "name": one.name})
        if one.outcome in kinds:
            xml.SubElement(case, kinds[one.outcome], {"message": one.why}).text = one.why
        else:
            xml.SubElement(case, "system-out").text = one.why
    xml.indent(suite)
    return bytes(xml.tostring(suite, encoding="utf-8", xml_declaration=True)) + b"\n"


def markdown(checks: Sequence[Check]) -> str:
    """The same as a table."""
    lines = [f"### streamgauge gate: {outcome(checks).value}", "", "| check | outcome | |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.outcome.value} | {one.why} |" for one in checks]
    return "\n".join([*lines, ""])


def write(checks: Sequence[Check], junit_file: Path | None, markdown_file: Path | None) -> None:
    """Whichever files were asked for."""
    if junit_file is not None:
        junit_file.write_bytes(junit(checks))
    if markdown_file is not None:
        markdown_file.write_text(markdown(checks), encoding="utf-8")


def _cells(one: Change) -> list[str]:
    # A ratio of backends has no unit, a backend's own figure is in seconds.
    middle = [("–" if value is None else f"{value:.3g}") if "÷" in one.what else seconds(value)
              for value in (one.before, one.after)]  # fmt: skip
    if one.ratio.estimate is None:
        return [*middle, "–", "–"]
    if one.ratio.low is None:
        return [*middle, f"{one.ratio.estimate:.3g}", "none from one quartet"]
    return [*middle, f"{one.ratio.estimate:.3g}", f"{one.ratio.low:.3g} to {one.ratio.high:.3g}"]
