"""A bench run as a page: which plots, which tables, which sentences. The numbers come from `result` and `series`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loadtest import again, bench_plots, flips_report, inside_plots, pictures, plan, recorder, report, time_plots
from loadtest.clock import Offset
from loadtest.drift import ProcessSample
from loadtest.host import HostSample
from loadtest.page import Figure, Page, Section, Table, write
from loadtest.plan import Plan
from loadtest.recorder import GeneratorRow, StreamRow
from loadtest.usage import BlockCounters
from loadtest.wording import adjusted, mebibytes, number, percentile

NAME = "report.html"
VERDICTS = {
    "VALID": "Nothing speaks against this run.",
    "NOISY": "The machine disturbed this run, so its figures should convince nobody.",
    "GENERATOR-LIMITED": "The load generator was late or short of processor time, which is in the figures.",
    "CENSORED": "Streams were in flight at the stop, so what would have taken longest is missing.",
    "TOO-FEW": "The run is too small to tell anything: it says that everything works, and little of how fast.",
    "BROKEN": "Streams did not come whole, so the figures are those of the survivors.",
}
# Those of the plots that report.md shows: enough to see what a run says.
PICTURES = (
    "Delivery latency by percentile", "Delivery latency, cumulative", "Time to first token, cumulative",
    "Gap between chunks, cumulative", "Time to first byte, cumulative",
    "Streams open at once", "Chunks received per second", "Where a chunk's time goes", "The slowest streams",
    "Processor time of the system",
)  # fmt: skip


class Rows(NamedTuple):
    """What a run left beside its result."""

    plan: Plan
    streams: Sequence[StreamRow]
    generator: Sequence[GeneratorRow]
    host: Sequence[HostSample]
    counters: Sequence[BlockCounters]
    processes: Sequence[ProcessSample]


class UnwrittenError(ValueError):
    """The disk did not take all of it; the message says what there is and what to do."""


def write_all(result: Mapping[str, Any], folder: Path) -> None:
    """`result.json`, `report.md` and `report.html`; what the disk does not take raises UnwrittenError."""
    try:
        report.write(result, folder)
        write_report(result, folder)
    except OSError as error:
        finish = f"'streamgauge report {folder}' then finishes it, since all figures are kept"
        lost = "run it again, since its figures were not kept"
        is_kept = (folder / "result.json").exists()
        raise UnwrittenError(
            f"{folder} could not be written ({error.strerror}): make room there; {finish if is_kept else lost}"
        ) from error


def write_report(result: Mapping[str, Any], folder: Path) -> Path:
    """`report.html` beside the result, with the plots of what lies there; returns where it is.

    Some of the plots are written as pictures too, and `report.md` shows them. Where the rows are not kept any more, a
    `report.md` that is there is left alone: its pictures can't be drawn again.
    """
    file, rows = folder / NAME, read_rows(folder)
    made = page(result, rows)
    write(made, file)
    if rows is None and (folder / "report.md").exists():
        return file
    shown = [one for one in _figures(made) if one.title in PICTURES or one.title.startswith("Ratio to")]
    text = report.markdown(result, pictures.write(shown, folder), again.command(result))
    (folder / "report.md").write_text(text, encoding="utf-8")
    return file


def _figures(made: Page) -> list[Figure]:
    return [*([made.lead] if made.lead else []), *(one for section in made.sections for one in section.figures)]


def read_rows(folder: Path) -> Rows | None:
    """The raw rows of a run; null where only its result is."""
    if not (folder / "plan.json").exists() or not (folder / "streams.jsonl").exists():
        return None
    return Rows(
        plan=plan.load(folder / "plan.json"),
        streams=recorder.read_streams(folder / "streams.jsonl"),
        generator=recorder.read_generator(folder / "generator.jsonl"),
        host=list(recorder.read(folder / "host.jsonl", HostSample)),
        counters=list(recorder.read(folder / "counters.jsonl", BlockCounters)),
        processes=list(recorder.read(folder / "processes.jsonl", ProcessSample)),
    )


def page(result: Mapping[str, Any], rows: Rows | None) -> Page:
    """The whole report."""
    names = list(result["backends"])
    clock = result["settings"]["clock"]
    offset = Offset(clock["same_host"], round(clock["offset_s"] * 1e9), round(clock["bound_s"] * 1e9))
    shown = bench_plots.Shown(result, names, rows, offset) if rows else None
    return Page(
        title=" and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0],
        made=f"streamgauge bench · {result['made_at'].replace('T', ' ').replace('+00:00', ' UTC')}",
        findings=[line.strip() for line in [*report.comparison_lines(result), *flips_report.sentences(result)]],
        verdicts=[(_verdict_says(result), result["verdict"], result["verdict_reasons"])],
        headline=Table(["", *names], [[label, *cells] for label, cells in report.headline(result)]),
        lead=bench_plots.ratios(shown) if shown and len(names) > 1 and not result.get("flips") else None,
        sections=[
            *flips_report.sections(result),
            *(_plots(shown) if shown else [_no_rows()]),
            *_tables(result),
            Section("What the numbers are not", [line.replace("`", "") for line in report.NOT_SAID]),
            _circumstances(result),
        ],
    )


def _verdict_says(result: Mapping[str, Any]) -> str:
    return VERDICTS[result["verdict"]]


def _no_rows() -> Section:
    why = "The run's raw streams are not beside its result, so there is nothing to plot: give the run's folder."
    return Section("Plots", [why])


def _plots(shown: bench_plots.Shown) -> list[Section]:
    sections = _of_the_model(shown) if shown.rows.plan.protocol == "openai" else _of_the_system(shown)
    if inside := inside_plots.figures(shown):
        sections.append(Section("Inside", figures=inside))
    if shown.rows.plan.flips is not None:  # a point a block says nothing of the one block of such a run
        return sections
    if counted := bench_plots.counted(shown):
        sections.append(Section("What it cost, block by block", [bench_plots.COUNTED_SAYS], counted))
    return sections


def _of_the_system(shown: bench_plots.Shown) -> list[Section]:
    return [
        Section(
            "Delivery latency",
            [f"From when the {report.DISTRIBUTIONS['delivery_latency_s']}."],
            [
                *([time_plots.latency(shown, percent) for percent in (50, 99)] if shown.rows.plan.flips else []),
                bench_plots.percentiles(shown),
                bench_plots.delivered(shown),
                *bench_plots.heatmaps(shown),
            ],
        ),
        Section(
            "First byte and load",
            [f"{name}: {report.DISTRIBUTIONS[f'{name}_s']}." for name in ("ttfb", "overhead_ttft")],
            [bench_plots.first_bytes(shown), bench_plots.added(shown), *_load(shown)],
        ),
    ]


def _of_the_model(shown: bench_plots.Shown) -> list[Section]:
    """A model that is asked directly does not say when it held a token."""
    seen = [bench_plots.first_tokens(shown), bench_plots.gaps(shown), bench_plots.first_bytes(shown)]
    return [Section("First token and gaps", figures=seen), Section("Load", figures=_load(shown))]


def _load(shown: bench_plots.Shown) -> list[Figure]:
    return [time_plots.concurrency(shown), time_plots.throughput(shown)]


def _tables(result: Mapping[str, Any]) -> list[Section]:
    columns = [*report.COLUMNS, "count", "lost"]
    spreads = [
        row
        for key in report.DISTRIBUTIONS
        for name, figures in result["backends"].items()
        for row in _spreads(f"{key.removesuffix('_s')}, {name}", figures[key])
    ]
    meanings = [f"{key.removesuffix('_s')}: {meaning}." for key, meaning in report.DISTRIBUTIONS.items()]
    names = list(result["backends"])
    # A meaning in a row's own label would push every number off the screen.
    costs = [[key, *(number(result["backends"][name][key]) for name in names)] for key in report.RATES]
    rates = [f"{key}: {meaning}." for key, meaning in report.RATES.items()]
    whole = [
        [name, number(figures["streams"]), *(number(figures["integrity"][one]) for one in report.INTEGRITY)]
        for name, figures in result["backends"].items()
    ]
    return [
        Section("Every duration", meanings, tables=[("", Table(["", *columns], spreads))]),
        Section("Load and cost", rates, tables=[("", Table(["", *names], costs)), *inside_plots.tables(result, names)]),
        Section("Integrity", report.failures(result), tables=[("", Table(["", "streams", *report.INTEGRITY], whole))]),
    ]


def _spreads(name: str, spread: Mapping[str, Any]) -> list[list[str]]:
    """The row of those that came whole, and of all where some did not."""
    lost = spread["adjusted"]["lost"]
    rows = [[name, *(percentile(spread, column) for column in report.COLUMNS), number(spread["count"]), number(lost)]]
    if lost:
        rows.append([f"{name}, adjusted", *(adjusted(spread, column) for column in report.COLUMNS), "", ""])
    return rows


def _circumstances(result: Mapping[str, Any]) -> Section:
    sentences = [line.replace("`", "") for line in report.facts(result)]
    settings = {key: value for key, value in result["settings"].items() if key != "flipping" or result.get("flips")}
    return circumstances_of(result["machine"], settings, again.command(result), sentences, result["evidence"])


def circumstances_of(
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    command: str,
    sentences: Sequence[str],
    evidence: Mapping[str, Any] | None = None,
) -> Section:
    """Where and how something was measured, and how to do it again: the last section of every page."""
    revision = machine.get("git_revision")
    return Section(
        "How it was made",
        sentences,
        tables=[
            ("Machine", _pairs({key: value for key, value in machine.items() if key != "packages"})),
            ("Settings", _pairs(settings)),
            *([("What the verdict rests on", _pairs(evidence))] if evidence else []),
            ("Versions", _pairs(machine.get("packages", {}))),
        ],
        code=[("Do it again", f"git checkout {revision}\n{command}" if revision else command)],
    )


def _pairs(known: Mapping[str, Any]) -> Table:
    return Table(["", ""], [[name, _said_of(name, value)] for name, value in known.items()], is_text=True)


def _said_of(name: str, value: Any) -> str:
    return mebibytes(value) if name.endswith("_bytes") else _said(value)


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
