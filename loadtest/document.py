"""The type of `result.json`, schema 3: what a program may rely on when it reads one.

`docs/result.schema.json` is made from these types (`python -m loadtest.document`), and a file that is read is checked
against them, so that a comparison never rests on a field that was not there.
"""

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadtest.misfit import misfit
from loadtest.verdict import Verdict

SCHEMAS = (1, 2, 3)
Number = float | None  # null: nothing was measured


class DocumentError(ValueError):
    """The file is no result; the message names it, the place of the fault and what to do."""


class Adjusted(msgspec.Struct, frozen=True):
    """Percentiles with every lost one counted as infinite; `infinite` names those that are."""

    p50: Number
    p90: Number
    p95: Number
    p99: Number
    p999: Number
    lost: int
    infinite: list[str]


class Spread(msgspec.Struct, frozen=True):
    """A distribution in seconds, over the streams that ended intact."""

    p50: Number
    p90: Number
    p95: Number
    p99: Number
    p999: Number
    max: Number
    count: int
    adjusted: Adjusted
    below_zero: int
    above_range: int


class Integrity(msgspec.Struct, frozen=True):
    """Streams that were intact, and streams that had each fault."""

    intact: int
    holes: int
    repeats: int
    out_of_order: int
    missing_terminal: int
    content_mismatch: int
    failed: int
    censored: int


class Slice(msgspec.Struct, frozen=True):
    """A minute of a soak, or a sixth of a short one: the streams that began in it, the most memory by process."""

    at_s: float
    streams: int
    intact: int
    ttft_p50_s: Number
    delivery_latency_p50_s: Number
    delivery_latency_p99_s: Number
    rss_bytes: dict[str, int]


class Figures(msgspec.Struct, frozen=True):
    """One backend. `by_quartet` has one figure per quartet and metric: the units of every interval.

    `extra` are the distributions that the scenario is about, by name; `over_time` is a soak's. By kind of process:
    `cpu_us_per_chunk` (a delta of the model is one, coalesced or not) and `peak_rss_bytes`; `hops_s` are means, which
    add up to the mean delivery.
    """

    streams: int
    chunks: int
    chunks_per_s: Number
    peak_concurrency: int
    delivery_latency_s: Spread
    ttfb_s: Spread
    ttft_s: Spread
    ttft_corrected_s: Spread
    overhead_ttft_s: Spread
    inter_chunk_latency_s: Spread
    e2e_s: Spread
    queue_wait_s: Spread
    start_lag_s: Spread
    by_quartet: dict[str, list[Number]]
    db_queries_per_s: Number
    db_queries_per_stream: Number
    store_ops_per_s: Number
    store_ops_per_stream: Number
    store_ops_by_command: dict[str, int] | None
    integrity: Integrity
    failures: dict[str, int]
    extra: dict[str, Spread] = {}
    over_time: list[Slice] = []
    cpu_us_per_chunk: dict[str, Number] = {}
    peak_rss_bytes: dict[str, int] = {}
    hops_s: dict[str, Number] = {}


class Ratio(msgspec.Struct, frozen=True):
    """exp(mean) of log-ratios with its 95 % interval; `quartets` is how many there were."""

    estimate: Number
    low: Number
    high: Number
    quartets: int


class Times(msgspec.Struct, frozen=True):
    """A ratio upside down."""

    estimate: Number
    low: Number
    high: Number


class Comparison(msgspec.Struct, frozen=True):
    """Candidate ÷ baseline: below 1, the candidate is faster."""

    baseline: str
    candidate: str
    delivery_latency_p50_ratio: Ratio
    delivery_latency_p95_ratio: Ratio
    delivery_latency_p99_ratio: Ratio
    times_lower: dict[str, Times]


class NoiseFloor(msgspec.Struct, frozen=True):
    """A' ÷ A of the delivery latency, the same backend measured twice in each quartet: it ought to be 1."""

    p50: Ratio
    p95: Ratio
    p99: Ratio


class Delivered(msgspec.Struct, frozen=True):
    """Delivery latency of the chunks that came in some second, in seconds."""

    p50: Number
    p99: Number
    count: int


class Around(msgspec.Struct, frozen=True):
    """The second before a flip, the one that it begins (longer where the store was lost) and the one after that.

    By backend, and `all`.
    """

    before: dict[str, Delivered]
    during: dict[str, Delivered]
    after: dict[str, Delivered]


class Flip(msgspec.Struct, frozen=True):
    """One flip of the flag. Times count from when it was in force; `at_s` from the beginning of the load.

    `posted` are the messages until the next flip: `on_new`, `rerouted` since the store was lost, or `late`. `open` are
    the streams that ran across it, and how they ended.
    """

    at_s: float
    before: str
    backend: str
    store_lost_s: Number
    took_s: float
    to_first_post_s: Number
    to_first_content_s: Number
    posted: int
    on_new: int
    rerouted: int
    late: int
    open: int
    open_intact: int
    open_handed_over: int
    delivery_latency_s: Around


class Continuity(msgspec.Struct, frozen=True):
    """Whether the flips cost anything: nothing is `broken`, or so many of each kind, told one by one in `findings`."""

    messages: int
    viewers: int
    intact: int
    outcomes: dict[str, int]
    handed_over: int
    handovers_counted: int | None
    rerouted: int
    resumed: int
    begun_anew: int
    pairs: list[str]
    broken: dict[str, int]
    findings: list[str]


class Result(msgspec.Struct, frozen=True):
    """The whole document. `flips` and `continuity` are of the scenario that flips the flag."""

    schema: Literal[3]
    verdict: Verdict
    verdict_reasons: list[str]
    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    backends: dict[str, Figures]
    comparisons: list[Comparison]
    noise_floor: NoiseFloor | None
    evidence: dict[str, Any]
    flips: list[Flip] = []
    continuity: Continuity | None = None


def read(path: Path) -> Result:
    """The result in a file (or in a run's folder); anything else raises DocumentError."""
    file = path / "result.json" if path.is_dir() else path
    try:
        made = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise DocumentError(f"{file}: {error.strerror}: give a result.json, or the folder of a run") from error
    except msgspec.MsgspecError as error:
        raise DocumentError(f"{file} is no whole JSON file ({error}): run 'streamgauge bench' anew") from error
    schema = made.get("schema") if isinstance(made, dict) else None
    if isinstance(schema, int) and schema not in SCHEMAS:
        known = ", ".join(map(str, SCHEMAS))
        raise DocumentError(
            f"{file} has schema {schema}, and this version reads {known}: take the version that wrote it"
        )
    made = _newest(made)
    if wrong := misfit(made, Result):
        raise DocumentError(
            f"{file} is no result of this version ({wrong}): take it as it was written, or run 'streamgauge bench' anew"
        )
    found = msgspec.convert(made, Result)
    if wrong := _contradiction(found):
        raise DocumentError(f"{file} contradicts itself ({wrong}): run 'streamgauge bench' anew")
    return found


def _contradiction(found: Result) -> str | None:
    """What the types alone let pass, and what whoever reads the document relies on."""
    for one in found.comparisons:
        for name in (one.baseline, one.candidate):
            if name not in found.backends:
                return f"a comparison with {name}, which is not among its backends"
    for name, figures in found.backends.items():
        for metric, values in figures.by_quartet.items():
            if any(value is not None and value <= 0 for value in values):
                return f"{metric} of {name} is not above 0 in some quartet"
    return None


def _newest(made: Any) -> Any:
    """Schema 1 had one comparison, of two backends, or none; 2 had no flips."""
    if not isinstance(made, dict) or made.get("schema") not in (1, 2):
        return made
    if made["schema"] == 2:
        return {**made, "schema": 3}
    old = made.get("comparison")
    return {**made, "schema": 3, "comparisons": [] if old is None else [old]}


def json_schema() -> bytes:
    """The JSON Schema of the document."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Result)}
    return msgspec.json.format(msgspec.json.encode(schema), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(json_schema())
