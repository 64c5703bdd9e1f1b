"""What is often said of a move from polling a database to Redis pub/sub, and whether a run here bears it out.

The claims are those of a migration guide from which this project began; their numbers are kept as it states them. Each
is judged by an interval and by nothing else. Pure.
"""

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from loadtest.document import Figures, Result
from loadtest.stats import log_ratio_interval, t_95

POLLING, PUBSUB = "polling", "pubsub"
OBJECTIVE_S = 0.25
"""The p99 of delivery below which streams count as held: the guide names no objective, this is a pause one notices."""
STREAMS = 1000
GB = 1e9


class Outcome(StrEnum):
    """What the interval says of the claim."""

    CONFIRMED = "confirmed"
    BETTER = "confirmed, and better"
    LOWER = "not confirmed: lower"
    HIGHER = "not confirmed: higher"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


class Claim(msgspec.Struct, frozen=True):
    """A range; null leaves that end open. `promise` is of the new way: being beyond the range's good end keeps it.

    What is `of_its_load` goes with a load that the guide does not name: another would have borne it out, or not.
    """

    name: str
    said: str
    unit: str
    low: float | None
    high: float | None
    promise: bool = False
    of_its_load: bool = False


class Measured(msgspec.Struct, frozen=True):
    """An estimate with its interval; an end that is null was not found."""

    estimate: float | None
    low: float | None
    high: float | None


class Finding(msgspec.Struct, frozen=True):
    """One line of the table."""

    claim: Claim
    measured: Measured
    outcome: Outcome
    meaning: str


class Level(msgspec.Struct, frozen=True):
    """So many streams of one backend at once, whether they held, and what the store was asked meanwhile."""

    streams: int
    held: bool
    why: str
    records: int
    store_bytes: int


class Edge(msgspec.Struct, frozen=True):
    """The most streams that held and the fewest that did not; null: no failure in range."""

    held: int
    failed: int | None


class Observed(msgspec.Struct, frozen=True):
    """Everything a judgement rests on beside the bench run. `operations_s` are the medians of batches of operations."""

    chunk_rate: float
    chunks_a_stream: float
    polling: Sequence[Level]
    pubsub: Sequence[Level]
    operations_s: Sequence[float]
    polling_interval_s: float


CLAIMS = {
    "ttfb_before": Claim("time to first byte, polling", "200–300 ms", "s", 0.2, 0.3),
    "ttfb_after": Claim("time to first byte, pub/sub", "5–10 ms", "s", 0.005, 0.01, promise=True),
    "latency_before": Claim("average latency of a chunk, polling", "50–100 ms", "s", 0.05, 0.1),
    "latency_after": Claim("average latency of a chunk, pub/sub", "1–5 ms", "s", 0.001, 0.005, promise=True),
    "faster": Claim("faster chunk delivery", "30×", "×", 30, None, promise=True),
    "queries_before": Claim("database queries, polling", "500–1,000/s", "/s", 500, 1000, of_its_load=True),
    "queries_after": Claim("database queries, pub/sub", "10–20/s", "/s", 10, 20, promise=True, of_its_load=True),
    "less_load": Claim("less database load", "50×", "×", 50, None, promise=True),
    "streams_before": Claim("most concurrent streams, polling", "~50", "", 25, 100),
    "streams_after": Claim("most concurrent streams, pub/sub", "1,000+", "", STREAMS, None, promise=True),
    "more_users": Claim("more concurrent users", "20×", "×", 20, None, promise=True),
    "operation": Claim("a Redis operation", "< 1 ms", "s", None, 0.001, promise=True),
    "memory": Claim("Redis memory for 1,000 streams", "2–4 GB", "B", 2 * GB, 4 * GB),
}


def judge(claim: Claim, found: Measured) -> Outcome:
    """Confirmed if the whole interval lies in the range, or, of a promise, beyond its good end."""
    if found.low is None and found.high is None:
        return Outcome.UNDECIDED
    if claim.of_its_load:
        return Outcome.NOT_COMPARABLE
    least, most = (-math.inf if found.low is None else found.low), (math.inf if found.high is None else found.high)
    bottom, top = (-math.inf if claim.low is None else claim.low), (math.inf if claim.high is None else claim.high)
    if most < bottom:
        # A promise with an upper end is about something that should be small.
        return Outcome.BETTER if claim.promise and claim.high is not None else Outcome.LOWER
    if least > top:
        return Outcome.HIGHER
    is_within = most <= top and (least >= bottom or (claim.promise and claim.high is not None))
    return Outcome.CONFIRMED if is_within else Outcome.UNDECIDED


def findings(bench: Result, seen: Observed) -> list[Finding]:
    """Every claim, measured and judged."""
    before, after = bench.backends[POLLING], bench.backends[PUBSUB]
    edges = edge(seen.polling), edge(seen.pubsub)
    measured = {
        "ttfb_before": _interval(before, "ttfb.mean"),
        "ttfb_after": _interval(after, "ttfb.mean"),
        "latency_before": _interval(before, "delivery_latency.mean"),
        "latency_after": _interval(after, "delivery_latency.mean"),
        "faster": _ratio(before, after, "delivery_latency.mean"),
        "queries_before": _queries_per_s(before),
        "queries_after": _queries_per_s(after),
        "less_load": _ratio(before, after, "db_queries_per_stream"),
        "streams_before": _between(edges[0]),
        "streams_after": _between(edges[1]),
        "more_users": _quotient(*edges),
        "operation": mean_interval(seen.operations_s),
        "memory": _memory(seen),
    }
    meanings = _meanings(before, after, bench, seen)
    return [Finding(CLAIMS[key], measured[key], judge(CLAIMS[key], measured[key]), meanings[key]) for key in CLAIMS]


def edge(levels: Sequence[Level]) -> Edge:
    """What held below every failure."""
    failed = min((one.streams for one in levels if not one.held), default=None)
    return Edge(max((one.streams for one in levels if failed is None or one.streams < failed), default=0), failed)


def next_level(levels: Sequence[Level], start: int, limit: int, close_enough: float) -> int | None:
    """The streams to try: doubled until it fails or reaches the limit, halved until it holds, then between."""
    if not levels:
        return min(start, limit)
    found = edge(levels)
    if found.failed is None:
        return min(2 * found.held, limit) if found.held < limit else None
    if not found.held:
        return found.failed // 2 or None
    return (found.held + found.failed) // 2 if found.failed > max(close_enough * found.held, found.held + 1) else None


def mean_interval(values: Sequence[float]) -> Measured:
    """The mean of independent values with its 95 % t-interval."""
    if not values:
        return Measured(None, None, None)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Measured(mean, None, None)
    half = t_95(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Measured(mean, mean - half, mean + half)


def _of_logs(logs: Sequence[float]) -> Measured:
    found = log_ratio_interval(logs)
    return Measured(found["estimate"], found["low"], found["high"])


def _interval(figures: Figures, unit: str) -> Measured:
    return _of_logs([math.log(one) for one in figures.by_quartet.get(unit, []) if one])


def _ratio(before: Figures, after: Figures, unit: str) -> Measured:
    """before ÷ after, by the quartets that have both: how many times less it became."""
    pairs = zip(before.by_quartet.get(unit, []), after.by_quartet.get(unit, []), strict=False)
    return _of_logs([math.log(old / new) for old, new in pairs if old and new])


def _queries_per_s(figures: Figures) -> Measured:
    """The queries of a stream, which have an interval, times the streams a second of the run, which were chosen."""
    each = _interval(figures, "db_queries_per_stream")
    if not figures.db_queries_per_s or not figures.db_queries_per_stream:
        return Measured(None, None, None)
    per_s = figures.db_queries_per_s / figures.db_queries_per_stream
    return Measured(*(None if one is None else one * per_s for one in (each.estimate, each.low, each.high)))


def _between(found: Edge) -> Measured:
    return Measured(found.held, found.held, found.failed)


def _quotient(before: Edge, after: Edge) -> Measured:
    return Measured(
        after.held / before.held if before.held else None,
        after.held / before.failed if before.failed else None,
        after.failed / before.held if after.failed and before.held else None,
    )


def bytes_a_record(levels: Sequence[Level]) -> Measured:
    """What the store grew by for each chunk it was given, by level."""
    return mean_interval([one.store_bytes / one.records for one in levels if one.records])


def _memory(seen: Observed) -> Measured:
    """Of a thousand streams while they are open, with all their chunks so far."""
    records = STREAMS * seen.chunks_a_stream
    each = bytes_a_record(seen.pubsub)
    return Measured(*(None if one is None else one * records for one in (each.estimate, each.low, each.high)))


def _meanings(before: Figures, after: Figures, bench: Result, seen: Observed) -> dict[str, str]:
    """Of each number: what it is here, and whether that is what the guide means."""
    edges = {POLLING: seen.polling, PUBSUB: seen.pubsub}
    whys = {name: next((one.why for one in _failures(levels)), "none failed") for name, levels in edges.items()}
    an_hour = bytes_a_record(seen.pubsub).estimate
    hourly = "" if an_hour is None else f"{an_hour * STREAMS * seen.chunk_rate * 3600 / GB:.3g} GB"
    cores = bench.machine.get("cores", "unknown")
    ttfb = "POST → first byte, which is a line of the stream's own; the guide does not say where its clock starts"
    first = "POST → first text less the model's own time to it is {} (p50)"
    queries = (
        "PostgreSQL's count of transactions at this run's {:.3g} streams/s, {} a stream; the guide names no load, and "
        "the number goes with it"
    )
    held = f"p99 of delivery < {OBJECTIVE_S * 1e3:.0f} ms, all intact, {seen.chunk_rate:g} chunks/s each, load and "
    held += "servers on the same {} cores; the guide names no objective. Beyond it: {}"
    return {
        "ttfb_before": f"{ttfb}. {first.format(_ms(before))}",
        "ttfb_after": f"{ttfb}. {first.format(_ms(after))}",
        "latency_before": f"mean, producer holds the chunk → client parsed it; polling looks every "
        f"{seen.polling_interval_s * 1e3:g} ms, as the guide's does",
        "latency_after": "the same; the guide's name for it, and like ours without the model's time",
        "faster": "ratio of the two means above, by quartet",
        "queries_before": queries.format(*_rates(before)),
        "queries_after": queries.format(*_rates(after)),
        "less_load": f"ratio of the queries of one stream, which no load moves; ours were {_chunks(bench)} chunks "
        "long, and polling's queries go with the length",
        "streams_before": held.format(cores, whys[POLLING]) + ". “~50” is taken as 25 to 100",
        "streams_after": held.format(cores, whys[PUBSUB]),
        "more_users": "ratio of the two above; its ends are what held against what failed",
        "operation": "round trip of one RPUSH or PUBLISH from a plain client to an idle server on this machine; under "
        f"the bench's load, from chunk to acknowledgement: {_publish(after)} on average",
        "memory": f"what the store grew by for each chunk × the {STREAMS * seen.chunks_a_stream:,.0f} chunks of "
        f"{STREAMS:,} open streams. The guide does not say how long its streams are. Its TTL of an hour keeps ended "
        f"ones too: at this pace {hourly}, extrapolated",
    }


def _failures(levels: Sequence[Level]) -> list[Level]:
    return sorted((one for one in levels if not one.held), key=lambda one: one.streams)


def _rates(figures: Figures) -> tuple[float, str]:
    each = figures.db_queries_per_stream
    if not each or not figures.db_queries_per_s:
        return 0.0, "not counted"
    return figures.db_queries_per_s / each, f"{each:.3g}"


def _ms(figures: Figures) -> str:
    value = figures.overhead_ttft_s.p50
    return "unknown" if value is None else f"{value * 1e3:.3g} ms"


def _publish(figures: Figures) -> str:
    value: Any = figures.hops_s.get("publish")
    return "unknown" if value is None else f"{value * 1e3:.3g} ms"


def _chunks(bench: Result) -> str:
    figures = bench.backends[PUBSUB]
    return f"{figures.chunks / figures.streams:.0f}" if figures.streams else "0"
