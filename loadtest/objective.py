"""What a system has to keep, as a person writes it: `delivery_latency.p99<50ms,ttft.p95<1s,intact=100%`. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadtest.report import DISTRIBUTIONS
from loadtest.wording import seconds

METRICS = tuple(key.removesuffix("_s") for key in DISTRIBUTIONS)
PERCENTILES = ("p50", "p90", "p95", "p99", "p999", "max")
UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
INTACT = "intact"
_LATENCY = re.compile(r"(\w+)\.(\w+)\s*<=?\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s)")
_INTACT = re.compile(r"intact\s*>?=\s*(\d+(?:\.\d+)?)\s*%")
EXAMPLE = "delivery_latency.p99<50ms,ttft.p95<1s,intact=100%"


class Clause(msgspec.Struct, frozen=True):
    """One condition: a percentile of a metric below a limit in seconds, or at least a share of the streams intact."""

    metric: str
    percentile: str | None
    limit: float

    @property
    def name(self) -> str:
        """As it was written, without its limit."""
        return self.metric if self.percentile is None else f"{self.metric}.{self.percentile}"

    def __str__(self) -> str:
        return (
            f"{self.name} ≥ {self.limit:.4g} %" if self.percentile is None else f"{self.name} < {seconds(self.limit)}"
        )


class Checked(msgspec.Struct, frozen=True):
    """A clause held against what was measured; a null value is infinite, or was never measured."""

    clause: Clause
    value: float | None
    kept: bool


def parse(text: str) -> list[Clause]:
    """The conditions, all of which have to hold; anything else raises ValueError with what may be written."""
    clauses = [_clause(part.strip()) for part in text.split(",") if part.strip()]
    if not clauses:
        raise ValueError(f"an empty objective is met by everything: give one such as {EXAMPLE}")
    return clauses


def check(clauses: Sequence[Clause], figures: Mapping[str, Any]) -> list[Checked]:
    """Hold one backend's figures, as in `result.json`, against each. What never ended counts as infinite."""
    return [_check(clause, figures) for clause in clauses]


def _clause(text: str) -> Clause:
    if found := _INTACT.fullmatch(text):
        return Clause(INTACT, None, _within(text, float(found[1])))
    found = _LATENCY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no objective: write one such as {EXAMPLE}")
    metric, percentile, limit, unit = found.groups()
    if metric not in METRICS:
        raise ValueError(f"{text!r}: there is no {metric!r}: give one of {', '.join(METRICS)}")
    if percentile not in PERCENTILES:
        raise ValueError(f"{text!r}: there is no {percentile!r}: give one of {', '.join(PERCENTILES)}")
    return Clause(metric, percentile, float(limit) * UNITS[unit])


def _within(text: str, percent: float) -> float:
    if percent > 100:
        raise ValueError(f"{text!r}: no more than 100 % of the streams can be intact")
    return percent


def _check(clause: Clause, figures: Mapping[str, Any]) -> Checked:
    if clause.percentile is None:
        share = 100 * figures["integrity"]["intact"] / figures["streams"] if figures["streams"] else None
        return Checked(clause, share, share is not None and share >= clause.limit)
    value = _adjusted(figures[f"{clause.metric}_s"], clause.percentile)
    return Checked(clause, value, value is not None and value < clause.limit)


def _adjusted(spread: Mapping[str, Any], percentile: str) -> float | None:
    if percentile == "max":
        largest: float | None = spread["max"]
        return None if spread["adjusted"]["lost"] else largest
    value: float | None = spread["adjusted"][percentile]
    return value
