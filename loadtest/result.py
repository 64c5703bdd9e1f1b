"""The one document of a run, schema 3: seconds and counts, and everything a reader needs to doubt them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtest import continuity, costs, drift, extras, flip_figures, summary, verdict
from loadtest.clock import Offset
from loadtest.drift import ProcessSample
from loadtest.flips import Done
from loadtest.host import HostSample
from loadtest.others import others_share
from loadtest.plan import Plan
from loadtest.recorder import GeneratorRow, StreamRow
from loadtest.stats import Distribution
from loadtest.summary import Measured
from loadtest.usage import BlockCounters
from loadtest.verdict import Verdict

BASELINE = "polling"
"""What the others are held against where it is among them; else the first that was named is."""


class Raw(msgspec.Struct, frozen=True):
    """Everything a run left behind."""

    plan: Plan
    backends: Sequence[str]
    """As they were named."""
    streams: Sequence[StreamRow]
    generator: Sequence[GeneratorRow]
    host: Sequence[HostSample]
    counters: Sequence[BlockCounters]
    offset: Offset
    offset_after: Offset
    started: Sequence[int]
    interrupted: bool
    processes: Sequence[ProcessSample] = ()
    generators: int = 1
    """How many played the plan together."""
    flips: Done | None = None
    unreachable: str | None = None
    """Why the run was ended before its plan was played, if the target was gone."""


def make(raw: Raw, settings: Mapping[str, Any], machine: Mapping[str, Any], made_at: str) -> dict[str, Any]:
    """The result: pure, so the same raw files always give the same document."""
    lost = summary.lost_with_the_generator(raw.plan, raw.generator, raw.started, raw.streams, raw.generators)
    streams = summary.measure([*raw.streams, *lost])
    names = sorted(raw.backends, key=lambda one: one != BASELINE)
    backends = {
        name: summary.backend(name, streams, raw.offset, raw.counters, raw.plan) | _more(name, streams, raw)
        for name in names
    }
    for name, figures in backends.items():
        figures["by_quartet"] |= costs.units(name, raw)
    others = others_share(raw.counters, raw.host, raw.generator)
    found = verdict.evidence(_start_lag(streams), raw.generator, raw.host, raw.offset, raw.offset_after, others)
    floor = summary.noise_floor(streams, raw.offset)
    comparisons = [_comparison(names[0], name, streams, raw.offset) for name in names[1:]]
    gone = [] if raw.unreachable is None else [(Verdict.BROKEN, raw.unreachable)]
    # Of a run that was stopped nobody asks whether it was planned large enough.
    too_few = [] if raw.interrupted or gone else verdict.too_few(backends, comparisons, floor)
    also = [*gone, *verdict.broken(backends), *too_few]
    judged, reasons = verdict.judge(found, backends, floor, interrupted=raw.interrupted, also=also)
    return {
        "schema": 3,
        "verdict": judged.value,
        "verdict_reasons": reasons,
        "made_at": made_at,
        "machine": dict(machine),
        "settings": {**settings, **_settings(raw)},
        "backends": backends,
        "comparisons": comparisons,
        "noise_floor": floor,
        "evidence": msgspec.to_builtins(found),
        **_flips(streams, raw),
    }


def _flips(streams: Sequence[Measured], raw: Raw) -> dict[str, Any]:
    """What the flips did, and whether they cost anything."""
    times, done = raw.plan.flips, raw.flips
    if times is None or done is None:
        return {"flips": [], "continuity": None}
    # Those whose generator died have no instants.
    began_ns = min((one.row.intended_ns for one in streams if one.row.intended_ns), default=0)
    return {
        "flips": flip_figures.figures(streams, times, done, raw.offset, began_ns),
        "continuity": continuity.judge(streams, times, done),
    }


def _more(name: str, streams: Sequence[Measured], raw: Raw) -> dict[str, Any]:
    """What the system used, and what only some scenarios have."""
    counted = [one for one in summary.played_by(name, streams) if one.row.counted]
    return {
        "extra": {key: spread.as_json() for key, spread in extras.distributions(counted, raw.offset).items()},
        **costs.of_backend(name, streams, raw),
        "over_time": drift.slices(counted, raw.processes, raw.offset, raw.plan.soak_s),
    }


def _comparison(baseline: str, candidate: str, streams: Sequence[Measured], offset: Offset) -> dict[str, Any]:
    compared = summary.comparison(baseline, candidate, streams, offset)
    ratios = {label: compared[f"delivery_latency_{label}_ratio"] for label in summary.RATIOS}
    # The same ratios upside down: easier to read when the candidate is the faster one.
    return {**compared, "times_lower": {label: _inverse(ratio) for label, ratio in ratios.items()}}


def _inverse(ratio: Mapping[str, float | None]) -> dict[str, float | None]:
    turned = {"estimate": ratio["estimate"], "low": ratio["high"], "high": ratio["low"]}
    return {name: None if value is None else 1 / value for name, value in turned.items()}


def _settings(raw: Raw) -> dict[str, Any]:
    quartets = {block.quartet for block in raw.plan.blocks if block.quartet is not None}
    return {
        "blocks": len(raw.plan.blocks),
        "quartets": len(quartets),
        "stream_timeout_s": raw.plan.stream_timeout_s,
        "generators": raw.generators,
        "clock": {
            "same_host": raw.offset.same_host,
            "offset_s": raw.offset.offset_ns / 1e9,
            "bound_s": raw.offset.bound_ns / 1e9,
        },
    }


def _start_lag(streams: Sequence[Measured]) -> Distribution:
    return Distribution(
        one.row.sent_ns - one.row.intended_ns for one in streams if one.row.counted and one.row.sent_ns is not None
    )
