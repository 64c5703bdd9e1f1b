"""The plots of where time went and what it took: hops, the slowest streams, processor and memory of the processes."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from loadtest import costs, waterfall
from loadtest.bench_plots import BOX, Shown
from loadtest.drift import ProcessSample
from loadtest.page import Figure, Table
from loadtest.plots.bars import Bar, Part, bars, box_of
from loadtest.plots.lines import Series, lines
from loadtest.plots.scales import Linear, above
from loadtest.report import INSIDE
from loadtest.series import Point
from loadtest.waterfall import Fall
from loadtest.wording import number, seconds, signed_seconds

SLOWEST, LEAST_EACH = 10, 2
POINTS = 60
PHASES = {
    "late": "POST later than intended", "post": "POST", "waiting": "to the first content", "answer": "the answer",
    "check": "read back",
}  # fmt: skip
HOPS = {
    "publish": "producer → stored", "transit": "stored → API", "write": "API → socket", "client": "socket → parsed",
}  # fmt: skip
MEAN_ROWS = 12


def figures(shown: Shown) -> list[Figure]:
    """Whatever of these the run has something for."""
    samples = shown.rows.processes
    found = [hops(shown), slowest(shown)]
    if len(samples) > 1:
        found += [processor(shown, samples), memory(shown, samples)]
    return [one for one in found if one is not None]


def hops(shown: Shown) -> Figure | None:
    """How a chunk's time is divided, by backend."""
    backends = shown.result["backends"]
    known = {name: {hop: value or 0.0 for hop, value in backends[name]["hops_s"].items()} for name in shown.names}
    known = {name: parts for name, parts in known.items() if parts}
    if not known:
        return None
    scale = _linear(0, 100, len(known), lambda value: f"{value:g} %")
    title = "Where a chunk's time goes"
    says = (
        "Means of the run, from the system's own metrics and, for the last part, the load's; each bar is the whole of "
        "that backend. A chunk that overtakes its own acknowledgement makes transit negative: the bar leaves that out."
    )
    drawn = [Bar(f"{name} {seconds(sum(parts.values()))}", _shares(parts)) for name, parts in known.items()]
    rows = [
        [name, *(signed_seconds(parts[hop]) for hop in costs.HOPS), signed_seconds(sum(parts.values()))]
        for name, parts in known.items()
    ]
    legend = [(HOPS[hop], shade) for shade, hop in enumerate(costs.HOPS)]
    svg = bars(title, "share of the mean delivery latency", scale, drawn)
    return Figure(title, says, svg, Table(["", *costs.HOPS, "all"], rows), legend, "part")


def slowest(shown: Shown) -> Figure | None:
    """The streams with the slowest chunks, phase by phase."""
    each = max(LEAST_EACH, SLOWEST // len(shown.names))
    found = [fall for name in shown.names for fall in waterfall.slowest(shown.measured[name], shown.offset, each)]
    if not found:
        return None
    until = max(one.ends_s[-1] for one in found)
    scale = _linear(-max(one.late_s for one in found), until or 1.0, len(found), lambda value: f"{value:g} s")
    title = "The slowest streams"
    says = (
        "Of each backend those with the slowest chunks, the worst first, from their POST; a line stands where that "
        "chunk came. Broken ones come before all others."
    )
    drawn = [Bar(_named(one), _phases(one), one.worst_at_s) for one in found]
    header = ["stream", "slowest chunk", *(PHASES[phase] for phase in waterfall.PHASES)]
    rows = [[_named(one), seconds(one.worst_s), *map(seconds, _lengths(one))] for one in found]
    legend = [(PHASES[phase], shade) for shade, phase in enumerate(waterfall.PHASES)]
    return Figure(title, says, bars(title, "time since the POST", scale, drawn), Table(header, rows), legend, "part")


def processor(shown: Shown, samples: Sequence[ProcessSample]) -> Figure:
    """Cores in use by each kind of process, second by second."""
    found: dict[str, list[Point]] = {}
    # Averages over a few seconds: single ones of a long run would be a thicket.
    for before, after in pairwise(samples[:: math.ceil(len(samples) / POINTS)]):
        wall_s = (after.at_ns - before.at_ns) / 1e9
        spent = [costs.by_kind(one.cpu_s) for one in (before, after)]
        for kind, used in spent[1].items():
            at_s = _since(shown, before, after)
            found.setdefault(kind, []).append((at_s, max(0.0, (used - spent[0].get(kind, used)) / wall_s)))
    title, says = "Processor time of the system", "Cores in use by each kind of process, all its processes together."
    return _over_time(title, says, "cores", found, number)


def memory(shown: Shown, samples: Sequence[ProcessSample]) -> Figure:
    """Resident memory of each kind of process."""
    found: dict[str, list[Point]] = {}
    for one in samples:
        for kind, size in costs.by_kind(one.rss_bytes).items():
            found.setdefault(kind, []).append((_since(shown, one, one), size / 2**20))
    says = "Resident, all processes of a kind together; PostgreSQL's share pages, which count in each of them."
    return _over_time("Memory of the system", says, "MiB", found, number)


def tables(result: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, Table]]:
    """What the processes used, and the hops, by backend, as far as they were in sight."""
    backends = result["backends"]
    found = []
    for key, (title, said) in INSIDE.items():
        kinds = list(dict.fromkeys(kind for name in names for kind in backends[name][key]))
        rows = [[kind, *(said(backends[name][key].get(kind)) for name in names)] for kind in kinds]
        if rows:
            found.append((title, Table(["", *names], rows)))
    return found


def _over_time(
    title: str, says: str, unit: str, found: Mapping[str, Sequence[Point]], said: Callable[[float | None], str]
) -> Figure:
    kinds = sorted(found)
    until = max(at for points in found.values() for at, _ in points)
    highest = max(up for points in found.values() for _, up in points if up is not None)
    x = Linear(0, until, BOX.left, BOX.right, lambda value: f"{value:g} s")
    y = Linear(0, above(highest), BOX.bottom, BOX.top, number)
    drawn = [Series(kind, colour, found[kind]) for colour, kind in enumerate(kinds)]
    places = [round(part * (len(found[kinds[0]]) - 1) / (MEAN_ROWS - 1)) for part in range(MEAN_ROWS)]
    rows = [
        [f"{found[kinds[0]][place][0]:.0f}", *(said(found[kind][place][1]) if place < len(found[kind]) else "–"
                                                for kind in kinds)]
        for place in sorted(set(places))
    ]  # fmt: skip
    svg = lines(title, (x, y), ("time of the run", unit), drawn)
    legend = [(kind, colour) for colour, kind in enumerate(kinds)]
    return Figure(title, says, svg, Table(["second", *kinds], rows), legend)


def _since(shown: Shown, before: ProcessSample, after: ProcessSample) -> float:
    """Seconds of the run, as far as this host's clock and the rows' are one."""
    return max(0.0, ((before.at_ns + after.at_ns) / 2 - shown.began_ns - shown.offset.offset_ns) / 1e9)


def _linear(low: float, high: float, count: int, label: Callable[[float], str]) -> Linear:
    box = box_of(count)
    return Linear(low, high, box.left, box.right, label)


def _shares(parts: Mapping[str, float]) -> list[Part]:
    whole = sum(max(0.0, value) for value in parts.values()) or 1.0
    found: list[Part] = []
    for shade, hop in enumerate(costs.HOPS):
        start = found[-1].end if found else 0.0
        found.append(Part(HOPS[hop], start, start + 100 * max(0.0, parts.get(hop, 0.0)) / whole, shade))
    return found


def _phases(one: Fall) -> list[Part]:
    edges = [-one.late_s, 0.0, *one.ends_s]
    return [
        Part(PHASES[phase], start, end, shade)
        for shade, (phase, (start, end)) in enumerate(zip(waterfall.PHASES, pairwise(edges), strict=True))
    ]


def _lengths(one: Fall) -> list[float]:
    return [end - start for start, end in pairwise([-one.late_s, 0.0, *one.ends_s])]


def _named(one: Fall) -> str:
    return f"{one.backend} {one.block + 1}/{one.arrival}" + ("" if one.whole else " ✗")
