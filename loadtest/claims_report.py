"""The claims with what was measured: a table for the terminal, Markdown and JSON. No arithmetic."""

from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtest.claims import Finding, Level, Measured, Outcome
from loadtest.wording import counted, seconds

COLOURS = {
    Outcome.CONFIRMED: "green",
    Outcome.BETTER: "green",
    Outcome.UNDECIDED: "yellow",
    Outcome.NOT_COMPARABLE: "yellow",
}
COLUMNS = ("claim", "stated", "measured", "interval", "outcome")

EXPLAINED = (
    "An interval decides: a claim is confirmed when all of it lies within what is stated, or beyond it on the good "
    "side of a promise. What goes with a load that the guide does not name is not comparable, wherever it lies. "
    "Intervals hold 95 %; those of the streams reach from the most that held to the fewest that did not, and each "
    "number of streams was tried once. What each number is, and whether it is what the claim means:"
)


class Document(msgspec.Struct, frozen=True):
    """`claims.json`. The verdict is the bench run's."""

    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    verdict: str
    verdict_reasons: list[str]
    findings: list[Finding]
    levels: dict[str, list[Level]]
    kind: Literal["claims"] = "claims"
    schema: int = 1


def write(made: Document, folder: Path) -> None:
    """`claims.json` for programs and `claims.md` for people."""
    (folder / "claims.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
    (folder / "claims.md").write_text(markdown(made), encoding="utf-8")


def show(made: Document, console: Console) -> None:
    """The table, and the verdict on what it rests on."""
    table = Table(title="Polling → pub/sub: what is claimed, and what this machine shows", title_justify="left")
    for heading in COLUMNS:
        table.add_column(heading, justify="left" if heading in {"claim", "outcome"} else "right")
    for one in made.findings:
        *cells, outcome = _cells(one)
        table.add_row(*map(escape, cells), f"[{COLOURS.get(one.outcome, 'red')}]{outcome}[/]")
    console.print(table)
    for line in _verdict(made):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def markdown(made: Document) -> str:
    """The table, what each number means, the levels that were tried, and how to do it again."""
    lines = ["# Polling → pub/sub: the claims", "", *_verdict(made), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---:|---:|---|"]
    lines += ["| " + " | ".join(_cells(one)) + " |" for one in made.findings]
    lines += ["", EXPLAINED, ""]
    lines += [f"- *{one.claim.name}*: {one.meaning}." for one in made.findings]
    for backend, levels in made.levels.items():
        lines += ["", f"Streams tried on `{backend}`: " + "; ".join(_level(one) for one in levels) + "."]
    settings = ", ".join(f"{name} {value}" for name, value in made.settings.items() if name != "command")
    machine = f"{counted(made.machine['cores'], 'core')}, {made.machine.get('cpu')}"
    lines += ["", f"Made {made.made_at} by `{made.settings['command']}` on {machine}; {settings}.", ""]
    return "\n".join(lines)


def _verdict(made: Document) -> list[str]:
    reasons = "; ".join(made.verdict_reasons) or "nothing speaks against this run"
    return [f"Verdict of the bench run: {made.verdict} ({reasons})."]


def _cells(one: Finding) -> list[str]:
    found, unit = one.measured, one.claim.unit
    return [one.claim.name, one.claim.said, _number(found.estimate, unit), _interval(found, unit), one.outcome.value]


def _interval(found: Measured, unit: str) -> str:
    if found.low is None and found.high is None:
        return "none"
    if found.high is None:
        return f"{_number(found.low, unit)} or more"
    return f"{_number(found.low, unit)} to {_number(found.high, unit)}"


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "s":
        return seconds(value)
    if unit == "B":
        return f"{value / 1e9:.3g} GB" if value >= 1e8 else f"{value / 1e6:.3g} MB"
    return f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"


def _level(one: Level) -> str:
    return f"{one.streams:,} {'held' if one.held else 'did not hold'} ({one.why})"
