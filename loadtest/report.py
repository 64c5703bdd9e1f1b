"""Statistics to JSON, Markdown and the terminal's table. No arithmetic: every number was made in `summary`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest import flips_report
from loadtest.catalogue import ROLLBACK
from loadtest.extras import EXTRAS
from loadtest.wording import adjusted, counted, mebibytes, number, percentile, seconds, signed_seconds

DISTRIBUTIONS = {
    "delivery_latency_s": "producer held the chunk's last delta → client parsed its event; no model time in it",
    "ttfb_s": "POST of the message → first byte of the event stream",
    "ttft_s": "POST of the message → first content event",
    "ttft_corrected_s": "the same from the intended start, so that lateness of the load generator is not hidden",
    "overhead_ttft_s": "ttft − the model's own time to first token: what the system adds",
    "inter_chunk_latency_s": "one content event → the next; a chunk is not a token",
    "e2e_s": "POST of the message → terminal event",
    "queue_wait_s": "POST of the message → a worker accepted the task",
    "start_lag_s": "intended start → POST: the load generator's own lateness",
}
RATES = {
    "peak_concurrency": "streams open at the client at once",
    "chunks_per_s": "content events received while its blocks were played",
    "db_queries_per_s": "PostgreSQL's own count of transactions (on the hot path each query is one, "
    "and so is each waking of a session that listens)",
    "db_queries_per_stream": "the same for one conversation: made, asked, streamed, read back",
    "store_ops_per_s": "Valkey's own count of commands, a script's inner ones too; the broker's left out",
    "store_ops_per_stream": "the same for one stream",
}
# An interval whose ends are further apart than this tells the direction and not the size.
VAGUE = 10.0
INTEGRITY = ("intact", "holes", "repeats", "out_of_order", "missing_terminal", "content_mismatch", "failed", "censored")
COLUMNS = ("p50", "p90", "p95", "p99", "p999", "max")
DELIVERED = {"ttfb_s": ("p50", "p99"), "overhead_ttft_s": ("p50", "p99"), "delivery_latency_s": ("p50", "p95", "p99")}
# A model that is asked directly says only what its client can see.
DIRECT = {"ttft_s": ("p50", "p99"), "inter_chunk_latency_s": ("p50", "p99"), "e2e_s": ("p50", "p99")}
NOT_SAID = (
    "Delivery latency is not what a user waits for a token: the model's time comes on top.",
    "Percentiles are over the streams that ended intact; `adjusted` counts the others as infinite.",
    "Everything ran where this says it ran. On one machine the parts share processors, so ratios of one run carry over "
    "to other machines far better than its milliseconds do.",
    "A percentile of so few values that it would be the largest is left out (–): p90 takes 10, p95 20, p99 100, p999 "
    "1,000. Just above, it rests on few all the same; the interval of the ratio says how few.",
    "The noise floor is that of this run: it holds the machine's mood within the run, not between two occasions.",
    "Database queries are a few per cent uncertain: PostgreSQL reports a connection's last second late.",
)


def write(result: Mapping[str, Any], folder: Path) -> None:
    """`result.json` for programs, whole or not at all, and `report.md` for people."""
    unfinished = folder / ".result.json"
    try:
        unfinished.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        unfinished.replace(folder / "result.json")
    finally:
        unfinished.unlink(missing_ok=True)
    (folder / "report.md").write_text(markdown(result), encoding="utf-8")


def markdown(result: Mapping[str, Any], pictures: Sequence[tuple[str, str]] = (), command: str | None = None) -> str:
    """The whole report: verdict, reasons, tables, definitions, machine, and what the numbers are not.

    `pictures` are titles and places beside the report, `command` is what plays the same again.
    """
    names = list(result["backends"])
    lines = [f"# {' vs '.join(names)}: {result['verdict']}", ""]
    lines += [f"- {reason}" for reason in result["verdict_reasons"]] or ["Nothing speaks against this run."]
    lines += ["", *facts(result), *([f"Again: `{command}`."] if command else []), ""]
    lines += comparison_lines(result)
    lines += flips_report.markdown(result)
    lines += [line for title, place in pictures for line in ("", f"![{title}]({place})")]
    for key, meaning in DISTRIBUTIONS.items():
        spreads = {name: figures[key] for name, figures in result["backends"].items()}
        lines += ["", f"## {key.removesuffix('_s')}", f"{meaning}.", "", *_distribution(spreads)]
    for name, spreads in _extra(result).items():
        lines += ["", f"## {name}", f"{EXTRAS[name].meaning}.", "", *_distribution(spreads)]
    lines += ["", "## Load and cost", "", *_side_by_side(result, RATES), *_inside(result)]
    lines += _over_time(result)
    lines += ["", "## Integrity (streams)", "", *_integrity(result), *(f"- {line}" for line in failures(result))]
    lines += ["", "## What the numbers are not", "", *(f"- {sentence}" for sentence in NOT_SAID)]
    lines += ["", "## Machine and settings", "", "```json"]
    lines += [json.dumps({key: result[key] for key in ("machine", "settings", "evidence")}, indent=1), "```", ""]
    return "\n".join(lines)


def show(result: Mapping[str, Any], console: Console) -> None:
    """The side-by-side table, the ratio and the verdict, on the terminal."""
    table = Table(title="Streaming backends side by side", title_justify="left")
    table.add_column("")
    for name in result["backends"]:
        table.add_column(name, justify="right")
    for label, cells in headline(result):
        table.add_row(label, *cells)
    has_any = any(figures["streams"] for figures in result["backends"].values())
    console.print(table if has_any else "No stream that counts had begun: there is nothing to show.")
    for line in [*comparison_lines(result), *_uncounted(result), *_over_time(result)]:
        console.print(line.rstrip(), highlight=False, soft_wrap=True)
    flips_report.show(result, console)
    colour = "green" if result["verdict"] == "VALID" else "red"
    console.print(f"verdict: [bold {colour}]{result['verdict']}[/]")
    for reason in [*result["verdict_reasons"], *failures(result)]:
        console.print(f"  {reason}", highlight=False, markup=False, soft_wrap=True)


INSIDE = {
    "cpu_us_per_chunk": ("CPU µs a chunk, by kind of process", number),
    "peak_rss_bytes": ("Most resident memory, by kind of process", mebibytes),
    "hops_s": ("Where a chunk's time goes (means; transit may be negative)", signed_seconds),
}


def headline(result: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What stands side by side first: a name, and a cell for each backend."""
    backends = result["backends"].values()
    rows: list[tuple[str, list[str]]] = [("streams", [number(one["streams"]) for one in backends])]
    for key, percentiles in (DIRECT if result["settings"].get("protocol") == "openai" else DELIVERED).items():
        rows += _percentiles(key.removesuffix("_s"), [one[key] for one in backends], percentiles)
    for name, spreads in _extra(result).items():
        found = [spreads.get(one) for one in result["backends"]]
        rows += _percentiles(name, found, ("p50", "p99"))
    rows += [(key, [number(one[key]) for one in backends]) for key in RATES if key != "store_ops_per_stream"]
    rows.append(("intact streams", [f"{one['integrity']['intact']} of {one['streams']}" for one in backends]))
    rows += [
        (name, [number(one["integrity"][name]) for one in backends])
        for name in INTEGRITY[1:]
        if any(one["integrity"][name] for one in backends)
    ]
    return rows


def _percentiles(
    name: str, spreads: Sequence[Mapping[str, Any] | None], labels: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """A row each, and beside it the adjusted one where some backend lost any."""
    rows = []
    for label in labels:
        rows.append((f"{name} {label}", ["–" if one is None else percentile(one, label) for one in spreads]))
        if any(one and one["adjusted"]["lost"] for one in spreads):
            rows.append(
                (f"{name} {label}, adjusted", ["–" if one is None else adjusted(one, label) for one in spreads])
            )
    return rows


def facts(result: Mapping[str, Any]) -> list[str]:
    """How the run was made, as sentences."""
    settings = result["settings"]
    facts = [
        f"Made {result['made_at']} against `{settings['target']}`, {settings['chunk_rate']:g} chunks/s a stream, "
        f"seed {settings['seed']}, {counted(result['machine']['cores'], 'core')}.",
    ]
    interval = settings.get("polling_interval_s")
    if "polling" in result["backends"]:
        facts.append(
            f"The polling backend looks every {seconds(interval)}."
            if interval is not None
            else "The polling backend's interval is not known here."
        )
    if settings.get("trace"):
        facts.append(f"Arrivals and output lengths are those of `{settings['trace']}`, questions are not.")
    if cap := settings.get("trace_output_tokens_capped_at"):
        facts.append(
            f"Being quick, answers were cut at {cap} tokens and each block's arrivals squeezed into "
            f"{settings['trace_segment_span_s_at_most']:g} s: run without --quick for the trace as recorded."
        )
    facts += _uncounted(result)
    clock = settings["clock"]
    if not clock["same_host"]:
        facts.append(
            f"The server runs on another host: instants are corrected by {seconds(clock['offset_s'])} "
            f"± {seconds(clock['bound_s'])}."
        )
    return facts


def _uncounted(result: Mapping[str, Any]) -> list[str]:
    """Why a server's own figures are missing, and what would give them."""
    settings = result["settings"]
    if settings.get("protocol") == "openai" or settings.get("scenario") == ROLLBACK:
        return []
    wanted = {"counted_database": "DATABASE_URL", "counted_store": "REDIS_URL"}
    if missing := [variable for name, variable in wanted.items() if settings.get(name) is False]:
        return [f"Nobody counted queries or commands there: set {' and '.join(missing)} to the target's servers."]
    return []


def comparison_lines(result: Mapping[str, Any]) -> list[str]:
    """What the run found between its backends, as sentences."""
    lines = [
        _ratio_line(compared, label)
        for compared in result["comparisons"]
        for label in ("p50", "p95", "p99")
        if compared["times_lower"][label]["estimate"] is not None
    ]
    return [line + "  " for line in [*lines, *_noise_floor(result)]]


def _ratio_line(compared: Mapping[str, Any], label: str) -> str:
    ratio, times = compared[f"delivery_latency_{label}_ratio"], compared["times_lower"][label]
    way, shown = ("lower", times) if times["estimate"] >= 1 else ("higher", ratio)
    candidate, baseline, what = compared["candidate"], compared["baseline"], f"delivery latency {label}"
    if shown["low"] is None:
        return f"{what}: {candidate} was {shown['estimate']:.3g}× {way} than {baseline} in one quartet: too few to tell"
    interval = f"95 % interval {shown['low']:.3g} to {shown['high']:.3g}, {ratio['quartets']} quartets"
    if shown["low"] <= 1 <= shown["high"]:
        return f"{what}: no difference shown between {candidate} and {baseline} ({interval})"
    if shown["high"] > VAGUE * shown["low"]:
        return f"{what}: {candidate} is {way} than {baseline}, and this run does not tell how much ({interval})"
    return f"{what}: {candidate} is {shown['estimate']:.3g}× {way} than {baseline} ({interval})"


def _noise_floor(result: Mapping[str, Any]) -> list[str]:
    floor = result["noise_floor"]
    ratio = floor["p50"] if floor else {"estimate": None}
    if ratio["estimate"] is None:
        return []
    interval = "no interval from one quartet"
    if ratio["low"] is not None:
        interval = f"95 % interval {ratio['low']:.3g} to {ratio['high']:.3g}"
    return [f"noise floor (the same backend twice, p50): {ratio['estimate']:.3g}× ({interval}); it ought to hold 1"]


def _extra(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the scenario is about: each extra distribution that some backend has, by backend."""
    backends = result["backends"].items()
    spreads = {key: {name: one["extra"][key] for name, one in backends if key in one["extra"]} for key in EXTRAS}
    return {key: found for key, found in spreads.items() if found}


def _inside(result: Mapping[str, Any]) -> list[str]:
    """What the processes used, by kind, and the parts of the mean delivery, where they were in sight."""
    backends, lines = result["backends"], []
    for key, (title, said) in INSIDE.items():
        kinds = list(dict.fromkeys(kind for figures in backends.values() for kind in figures[key]))
        if kinds:
            lines += ["", f"{title}:", "", "| | " + " | ".join(backends) + " |", "|---|" + "---:|" * len(backends)]
        for kind in kinds:
            cells = [said(figures[key].get(kind)) for figures in backends.values()]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def _over_time(result: Mapping[str, Any]) -> list[str]:
    """A soak's table a backend, a line a minute."""
    lines = []
    for name, slices in ((name, one["over_time"]) for name, one in result["backends"].items()):
        if not slices:
            continue
        processes = sorted({process for one in slices for process in one["rss_bytes"]})
        heads = ["from", "streams", "intact", "ttft p50", "delivery p50", "delivery p99", *processes]
        lines += ["", f"## {name} over time", "Streams by their start; the most resident memory of each process.", ""]
        lines += ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
        for one in slices:
            times = (seconds(one[key]) for key in ("ttft_p50_s", "delivery_latency_p50_s", "delivery_latency_p99_s"))
            sizes = (mebibytes(one["rss_bytes"].get(process)) for process in processes)
            cells = [f"{one['at_s']:g} s", str(one["streams"]), str(one["intact"]), *times, *sizes]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _distribution(spreads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["| | " + " | ".join((*COLUMNS, "count", "lost")) + " |", "|---|" + "---:|" * (len(COLUMNS) + 2)]
    for name, spread in spreads.items():
        cells = [*(percentile(spread, column) for column in COLUMNS), str(spread["count"])]
        lines.append(f"| {name} | " + " | ".join([*cells, str(spread["adjusted"]["lost"])]) + " |")
        if spread["adjusted"]["lost"]:
            cells = [adjusted(spread, column) for column in COLUMNS]
            lines.append(f"| {name}, adjusted | " + " | ".join([*cells, "", ""]) + " |")
    return lines


def _side_by_side(result: Mapping[str, Any], keys: Mapping[str, str]) -> list[str]:
    names = list(result["backends"])
    lines = ["| | " + " | ".join(names) + " | |", "|---|" + "---:|" * len(names) + "---|"]
    for key, meaning in keys.items():
        cells = [number(result["backends"][name][key]) for name in names]
        lines.append(f"| {key} | " + " | ".join(cells) + f" | {meaning} |")
    return lines


def _integrity(result: Mapping[str, Any]) -> list[str]:
    lines = ["| | streams | " + " | ".join(INTEGRITY) + " |", "|---|" + "---:|" * (len(INTEGRITY) + 1)]
    for name, figures in result["backends"].items():
        cells = [str(figures["streams"]), *(str(figures["integrity"][one]) for one in INTEGRITY)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def failures(result: Mapping[str, Any]) -> list[str]:
    """Why streams were no success, and how many for that reason."""
    return [
        f"{name}: {count} × {why}"
        for name, figures in result["backends"].items()
        for why, count in figures["failures"].items()
    ]
