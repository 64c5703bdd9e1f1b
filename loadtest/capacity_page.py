"""A capacity search as a page: throughput and the law, each latency of the objective by load, and every level."""

from collections.abc import Sequence
from pathlib import Path

from loadtest import page as pages
from loadtest.bench_page import circumstances_of
from loadtest.capacity import Capacity, Document, Level
from loadtest.capacity_report import NOT_SAID, held, how, law, levels, objective_says, parameters, shown
from loadtest.objective import Clause
from loadtest.page import Figure, Page, Section, Table
from loadtest.plots.lines import Mark, Series, lines
from loadtest.plots.scales import Linear, Log, above, around
from loadtest.plots.svg import Box
from loadtest.verdict import Verdict
from loadtest.wording import number, seconds

NAME = "capacity.html"
BOX = Box()
CURVE = 100


def write(made: Document, folder: Path) -> Path:
    """`capacity.html`; returns where it is."""
    file = folder / NAME
    pages.write(page(made), file)
    return file


def page(made: Document) -> Page:
    """The page: throughput and the law, each latency of the objective against the load, and every level."""
    legend = [(name, colour) for colour, name in enumerate(made.backends)]
    verdicts = [(f"{name}: {held(found)}", *_verdict(found)) for name, found in made.backends.items()]
    headline = Table(
        ["", *made.backends],
        [
            ["held", *(f"{found.held:,}" for found in made.backends.values())],
            ["failed", *("–" if found.failed is None else f"{found.failed:,}" for found in made.backends.values())],
            *_law_rows(made),
        ],
    )
    return Page(
        title="Most concurrent streams",
        made=f"streamgauge capacity · {made.made_at.replace('T', ' ').replace('+00:00', ' UTC')}",
        findings=[f"The objective: {objective_says(made.objective)}"],
        verdicts=verdicts,
        headline=headline,
        lead=_throughput(made, legend),
        sections=[
            Section("The objective and the load", figures=_latencies(made, legend)),
            Section("Every level", tables=[("", _every_level(made))]),
            Section(
                "The law",
                [
                    "X(N) = λN / (1 + σ(N − 1) + κN(N − 1)), Gunther's Universal Scalability Law, by least squares.",
                    *(f"{name}: {sentence}." for name, found in made.backends.items() for sentence in law(found.law)),
                ],
            ),
            Section("What the numbers are not", NOT_SAID),
            circumstances_of(made.machine, {**made.settings, **_shape(made)}, _command(made), how(made)),
        ],
    )


def _every_level(made: Document) -> Table:
    each = {name: levels(made.objective, found) for name, found in made.backends.items()}
    rows = [[f"{name} × {row[0]}", *row[1:]] for name, table in each.items() for row in table.rows]
    return Table(["", *next(iter(each.values())).header[1:]], rows)


def _verdict(found: Capacity) -> tuple[str, Sequence[str]]:
    """That of the levels which the answer rests on: the ones that held."""
    judged = [level for level in found.levels if level.streams == found.held] or found.levels
    worst = next((level for level in judged if level.verdict is not Verdict.VALID), None)
    return (Verdict.VALID.value, ()) if worst is None else (worst.verdict.value, worst.reasons)


def _law_rows(made: Document) -> list[list[str]]:
    fits = [found.law for found in made.backends.values()]
    each = [dict(parameters(fit)) if fit else {} for fit in fits]
    rows = [[sign, *(one.get(sign, "–") for one in each)] for sign in ("λ", "σ", "κ")]
    rows.append(["peak at", *("–" if fit is None or fit.peak_n is None else number(fit.peak_n) for fit in fits)])
    rows.append(["R²", *("–" if fit is None or fit.r_squared is None else f"{fit.r_squared:.4f}" for fit in fits)])
    return [*rows, ["fit to be trusted", *("yes" if fit and not fit.doubts else "no" for fit in fits)]]


def _throughput(made: Document, legend: Sequence[tuple[str, int]]) -> Figure:
    points = {
        name: sorted((level.concurrency, level.deltas_per_s) for level in found.levels)
        for name, found in made.backends.items()
    }
    every = [point for some in points.values() for point in some]
    x = Linear(0, above(max(at for at, _ in every)), BOX.left, BOX.right, number)
    y = Linear(0, above(max(up for _, up in every)), BOX.bottom, BOX.top, number)
    series = [Series(name, colour, points[name], "dots") for name, colour in legend]
    for name, colour in legend:
        fit, last = made.backends[name].law, max(at for at, _ in points[name])
        if fit is not None:
            curve = [(at, fit.at(at)) for at in (1 + (last - 1) * step / CURVE for step in range(CURVE + 1))]
            series.append(Series(f"{name}, the law", colour, curve))
    rows = [
        [name, number(level.concurrency), number(level.deltas_per_s), number(fit.at(level.concurrency)) if fit else "–"]
        for name, found in made.backends.items()
        for fit in [found.law]
        for level in sorted(found.levels, key=lambda one: one.concurrency)
    ]
    return Figure(
        title="Throughput by open streams",
        says="Points are measured, lines are the law fitted to them.",
        svg=lines("Throughput by open streams", (x, y), ("open streams", "deltas/s"), series),
        table=Table(["", "open", "deltas/s", "by the law"], rows),
        legend=legend,
    )


def _latencies(made: Document, legend: Sequence[tuple[str, int]]) -> list[Figure]:
    return [
        _latency(made, legend, place, clause)
        for place, clause in enumerate(made.objective)
        if clause.percentile is not None
    ]


def _latency(made: Document, legend: Sequence[tuple[str, int]], place: int, clause: Clause) -> Figure:
    points = {
        name: sorted(
            (float(level.streams), level.checks[place].value) for level in found.levels if _is_finite(level, place)
        )
        for name, found in made.backends.items()
    }
    every = [(at, up) for some in points.values() for at, up in some if up is not None]
    x = Log(*around((at for at, _ in every), least=1), BOX.left, BOX.right, number)
    y = Log(*around([*(up for _, up in every), clause.limit]), BOX.bottom, BOX.top, seconds)
    series = [Series(name, colour, points[name], "dots") for name, colour in legend]
    series += [Series(name, colour, points[name]) for name, colour in legend]
    rows = [
        [name, f"{level.streams:,}", shown(level.checks[place]), "yes" if level.checks[place].kept else "no"]
        for name, found in made.backends.items()
        for level in sorted(found.levels, key=lambda one: one.streams)
    ]
    title = f"{clause.name} by load"
    return Figure(
        title=title,
        says=f"The red line is the objective, {seconds(clause.limit)}. Infinite values are in the table only.",
        svg=lines(title, (x, y), ("streams asked for", clause.name), series, [Mark(str(clause), clause.limit)]),
        table=Table(["", "streams", clause.name, "kept"], rows),
        legend=legend,
    )


def _is_finite(level: Level, place: int) -> bool:
    return level.checks[place].value is not None


def _shape(made: Document) -> dict[str, object]:
    shape = made.shape
    return {"stream_s": shape.stream_s, "window_s": shape.window_s, "chunk_rate": shape.chunk_rate, "seed": shape.seed}


def _command(made: Document) -> str:
    slo = ",".join(
        f"{one.name}={one.limit:g}%" if one.percentile is None else f"{one.name}<{one.limit:g}s"
        for one in made.objective
    )
    quick = " --quick" if made.settings.get("quick") else ""
    options = {
        "slo": f'"{slo}"',
        "backends": ",".join(made.backends),
        "chunk-rate": f"{made.shape.chunk_rate:g}",
        "start": made.settings["start"],
        "limit": made.settings["limit"],
        "seed": made.shape.seed,
    }
    return " ".join(["streamgauge capacity", *(f"--{name} {value}" for name, value in options.items())]) + quick
