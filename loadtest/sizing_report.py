"""A plan as Markdown. The numbers come from `sizing`."""

from collections.abc import Sequence

from loadtest.sizing import GIB, NAMES, Line, Link, Sizing, Systems, Wanted
from loadtest.wording import counted


def markdown(plans: Sequence[Sizing | Systems], wanted: Wanted) -> str:
    """The load, what it takes by backend, and everything that was assumed."""
    heading = (
        f"# {counted(wanted.streams, 'stream')} × {wanted.chunk_rate:g} chunks/s: {wanted.chunks_per_s:,.0f} chunks/s"
    )
    parts = [heading, f"Planned at {wanted.utilisation:.0%} utilisation. An estimate from costs, not a measurement."]
    for plan in plans:
        parts += [f"## {plan.backend}", f"Measured: {plan.measured}."]
        parts.append(_systems(plan) if isinstance(plan, Systems) else _sizing(plan))
    assumed = list(dict.fromkeys(sentence for plan in plans for sentence in plan.assumptions))
    return "\n\n".join([*parts, "## Assumed", "\n".join(f"- {sentence}" for sentence in assumed)]) + "\n"


def _systems(plan: Systems) -> str:
    if plan.count is None:
        return "It held too little for one stream at this utilisation: no number of such systems will do."
    mark = f" **Extrapolated**: {plan.extrapolated}." if plan.extrapolated else " Within the measured range."
    return f"**{counted(plan.count, 'such system')}**, {counted(plan.streams_each, 'stream')} each.{mark}"


def _sizing(plan: Sizing) -> str:
    rows = [_row(line) for line in plan.lines]
    header = ["", "count", "µs a chunk", "busy cores", "memory", "decided by", "beyond what was measured"]
    table = [header, ["---", "---:", "---:", "---:", "---:", "---", "---"], *rows]
    links = "; ".join(f"{link.name} {_bits(link)}" for link in plan.links)
    return "\n".join("| " + " | ".join(row) + " |" for row in table) + f"\n\nNetwork: {links}."


def _row(line: Line) -> list[str]:
    return [
        NAMES[line.kind],
        f"{line.count:,}",
        f"{line.cpu_us_per_chunk:.1f}",
        f"{line.cores:,.1f}",
        "–" if line.memory_bytes is None else f"{line.memory_bytes / GIB:,.1f} GiB",
        line.decided_by,
        f"extrapolated: {line.extrapolated}" if line.extrapolated else "no",
    ]


def _bits(link: Link) -> str:
    return f"{link.bits_per_s / 1e9:,.2f} Gbit/s" if link.bits_per_s >= 1e9 else f"{link.bits_per_s / 1e6:,.1f} Mbit/s"
