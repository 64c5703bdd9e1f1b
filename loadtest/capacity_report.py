"""A capacity search in words: a line per level, tables and Markdown. The numbers come from `capacity`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from loadtest.capacity import CLOSE_ENOUGH, KEPT_UP, Capacity, Document, Level
from loadtest.objective import Checked, Clause
from loadtest.page import Table
from loadtest.usl import Fit
from loadtest.verdict import Verdict
from loadtest.wording import counted, number, seconds

NOT_SAID = (
    "The figure is this machine's, with every part and the load on it: compare it with other backends of the same run.",
    f"A level holds if every condition does and at least {KEPT_UP:.0%} of what the model makes arrives. The search "
    f"ends when what held and what did not are within {CLOSE_ENOUGH - 1:.0%}, and then tries the edge again.",
    "Backends are searched one after the other, so a drift of the machine between them is in the figures.",
    "The law describes throughput alone: an objective of latency fails before the peak.",
)


def write(made: Document, folder: Path) -> None:
    """`capacity.md`."""
    (folder / "capacity.md").write_text(markdown(made), encoding="utf-8")


def line(backend: str, level: Level) -> str:
    """What one level showed, in one line."""
    checks = ", ".join(f"{one.clause.name} {shown(one)}{'' if one.kept else ' ✗'}" for one in level.checks)
    judged = "" if level.verdict is Verdict.VALID else f" [{level.verdict.value}]"
    late = "" if level.keeps_up else f", {level.deltas_per_s / level.offered_per_s:.0%} of the offer arrived ✗"
    return f"{'✓' if level.holds else '✗'} {backend} × {level.streams}: {checks}{late}{judged}"


def show(made: Document, console: Console) -> None:
    """The findings on the terminal."""
    for name, found in made.backends.items():
        console.print(f"[bold]{escape(name)}[/]: {escape(held(found))}", highlight=False, soft_wrap=True)
        for sentence in law(found.law):
            console.print(f"  {escape(sentence)}", highlight=False, soft_wrap=True)


def held(found: Capacity) -> str:
    """How many streams held, and what that is worth."""
    if found.failed is None:
        return f"{counted(found.held, 'stream')} held, no failure in range: go higher with --limit"
    if not found.held:
        return "not even 1 stream held" if found.failed == 1 else f"{counted(found.failed, 'stream')} failed"
    tries = sum(level.streams == found.held for level in found.levels)
    said = f"{counted(found.held, 'stream')} held ({tries} of {tries} tries), {found.failed:,} did not"
    if not found.failed_by_load:
        return said
    return f"{said}, but there the load generator was at its own limit: the system may hold more"


def law(fit: Fit | None) -> list[str]:
    """The fitted law in words, its doubts first of all."""
    if fit is None:
        return ["the law needs three different loads"]
    peak = "no peak ahead"
    if fit.peak_n is not None and fit.peak_x is not None:
        peak = f"peak {number(fit.peak_x)} deltas/s at {number(fit.peak_n)} streams"
    said = ", ".join([*(f"{name} {value}" for name, value in parameters(fit)), peak])
    off = max(map(abs, fit.residuals), default=0.0)
    residuals = f"residuals up to {number(off)} deltas/s, R² {'–' if fit.r_squared is None else f'{fit.r_squared:.4f}'}"
    return [f"{said}; {residuals}", *(f"not to be trusted: {doubt}" for doubt in fit.doubts)]


def parameters(fit: Fit) -> list[tuple[str, str]]:
    """λ, σ and κ with their intervals."""
    rows = []
    for sign, name, value in (
        ("λ", "lambda", fit.lambda_),
        ("σ", "sigma", fit.sigma),
        ("κ", "kappa", fit.kappa),
    ):
        half = fit.half_widths[name]
        rows.append((sign, f"{value:.4g}" + ("" if half is None else f" ± {half:.2g}")))
    return rows


def shown(one: Checked) -> str:
    """The measured value with its unit; infinite when it never ended."""
    if one.clause.percentile is None:
        return "–" if one.value is None else f"{one.value:.4g} %"
    return "∞" if one.value is None else seconds(one.value)


def markdown(made: Document) -> str:
    """The whole report."""
    parts = [f"# Most streams with {objective_says(made.objective)}", ""]
    parts += [f"- **{name}**: {held(found)}" for name, found in made.backends.items()]
    parts += ["", *how(made)]
    for name, found in made.backends.items():
        table = levels(made.objective, found)
        parts += ["", f"## {name}", "", "| " + " | ".join(table.header) + " |"]
        parts += ["|" + "---|" + "---:|" * (len(table.header) - 1)]
        parts += ["| " + " | ".join(row) + " |" for row in table.rows]
        parts += ["", "Universal Scalability Law, X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), over open streams:", ""]
        parts += [f"- {sentence}" for sentence in law(found.law)]
        parts += [
            f"- {counted(level.streams, 'stream')}: {reason}" for level in found.levels for reason in level.reasons
        ]
    return "\n".join([*parts, "", "## What the numbers are not", "", *(f"- {one}" for one in NOT_SAID), ""])


def levels(clauses: Sequence[Clause], found: Capacity) -> Table:
    """Every level by load, in the order of tries."""
    fitted = found.law.at if found.law else None
    rows = [
        [
            f"{level.streams:,}",
            number(level.concurrency),
            number(level.deltas_per_s),
            "–" if fitted is None else number(fitted(level.concurrency)),
            *(shown(one) + ("" if one.kept else " ✗") for one in level.checks),
            "yes" if level.holds else "no",
            level.verdict.value,
        ]
        for level in sorted(found.levels, key=lambda level: level.streams)
    ]
    names = [clause.name for clause in clauses]
    return Table(["streams", "open", "deltas/s", "by the law", *names, "holds", "verdict"], rows)


def objective_says(clauses: Sequence[Clause]) -> str:
    """All conditions in one line."""
    return ", ".join(map(str, clauses))


def how(made: Document) -> list[str]:
    """How it was made, as sentences."""
    shape = made.shape
    return [
        f"Streams of {shape.chunks} chunks at {shape.chunk_rate:g}/s, counted for {shape.window_s:g} s a level, with "
        f"POST and turnover; {made.settings['target']}, {counted(made.machine['cores'], 'core')}, made {made.made_at}.",
    ]
