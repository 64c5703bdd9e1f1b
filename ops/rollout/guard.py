"""`guard.yaml`: what a candidate has to keep while a rollout goes on, and how the rollout goes on."""

import re
from pathlib import Path
from typing import Annotated

import msgspec
import yaml

from ops.rollout.figures import LATENCIES
from ops.usage import UsageError

SHARES = {
    "failed": "of the streams",
    "lost": "of the streams",
    "handovers": "of the streams",
    "repairs": "of the events",
    "duplicates": "of the appends",
}
"""The objectives that are shares, and of what."""
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DEFAULT = Path(__file__).with_name("guard.yaml")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|m|h)")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_KEY = re.compile(r"\$\.?(.*)")


class Objective(msgspec.Struct, frozen=True):
    """One thing to keep: a latency's quantile in seconds, or a share from 0 to 1.

    `ratio` and `slack` are about the baseline: no more than the larger of `ratio` times as much, and `slack` more.
    `limit` is absolute.
    """

    name: str
    ratio: float | None = None
    slack: float | None = None
    limit: float | None = None

    @property
    def what(self) -> str:
        """The latency, or the share, without its percentile."""
        return self.name.partition(".")[0]

    @property
    def quantile(self) -> float | None:
        """Of a latency; None of a share."""
        return PERCENTILES.get(self.name.partition(".")[2])

    def allowed(self, baseline: float) -> float | None:
        """Give how much is allowed beside this much of the baseline; None if nothing is said about that."""
        if self.ratio is None and self.slack is None:
            return None
        return max(baseline * (self.ratio or 1.0), baseline + (self.slack or 0.0))


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where events are POSTed as JSON; one that is a `gate` is also asked before a step that has a gate."""

    url: Annotated[str, msgspec.Meta(pattern="^https?://")]
    gate: bool = False
    events: tuple[str, ...] = ()
    """Only these; all if empty."""


class Guard(msgspec.Struct, frozen=True):
    """The whole of it; times are in seconds."""

    objectives: tuple[Objective, ...]
    streams: int
    """As many streams, and as many chunks, both backends need before anything is said of them."""
    chunks: int
    failures: int
    passes: int
    cooldown_s: float
    limit_s: float
    gates: tuple[float, ...]
    webhooks: tuple[Webhook, ...]


Count = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]


class _Objective(msgspec.Struct, forbid_unknown_fields=True):
    ratio: Annotated[float, msgspec.Meta(ge=1)] | None = None
    slack: str | None = None
    limit: str | None = None


class _Minimum(msgspec.Struct, forbid_unknown_fields=True):
    streams: Count = 20
    chunks: Count = 200


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    objectives: dict[str, _Objective]
    minimum: _Minimum = msgspec.field(default_factory=_Minimum)
    failures: Count = 2
    passes: Count = 1
    cooldown: str = "10s"
    limit: str = "1h"
    gates: tuple[Percent, ...] = ()
    webhooks: tuple[Webhook, ...] = ()


def read_guard(path: Path) -> Guard:
    """Read a guard; `UsageError` names the key that is wrong and says what to write."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}. Copy ops/rollout/guard.yaml, or leave --guard out.") from error
    try:
        return parse_guard(text)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def parse_guard(text: str) -> Guard:
    """Make a guard of YAML. Raises ValueError."""
    try:
        document = msgspec.convert(yaml.safe_load(text) or {}, _Document)
    except yaml.YAMLError as error:
        raise ValueError(
            f"this is no YAML: {' '.join(str(error).split())}. Begin with ops/rollout/guard.yaml."
        ) from error
    except msgspec.ValidationError as error:
        raise ValueError(_said(error)) from error
    if not document.objectives:
        raise ValueError(
            "objectives: none is given, and everything would pass. Write one, such as\n"
            "  delivery_latency.p99: {ratio: 2, slack: 20ms}"
        )
    return Guard(
        objectives=tuple(_objective(name, given) for name, given in document.objectives.items()),
        streams=document.minimum.streams,
        chunks=document.minimum.chunks,
        failures=document.failures,
        passes=document.passes,
        cooldown_s=duration("cooldown", document.cooldown),
        limit_s=duration("limit", document.limit),
        gates=document.gates,
        webhooks=document.webhooks,
    )


def duration(key: str, text: str) -> float:
    """Give seconds. Raises ValueError that names the key."""
    return _number(key, text, _DURATION, "a time such as 250ms, 60s or 2m")


def _objective(name: str, given: _Objective) -> Objective:
    key, (what, _, percentile) = f"objectives.{name}", name.partition(".")
    if what in LATENCIES and percentile in PERCENTILES:
        pattern, example = _DURATION, "a time such as 250ms"
    elif name in SHARES:
        pattern, example = _PERCENT, "a share such as 0.5%"
    else:
        known = [f"{latency}.p99" for latency in LATENCIES]
        raise ValueError(
            f"{key}: nothing is measured under this name. Write one of {', '.join([*known, *SHARES])}; "
            f"a latency's percentile is one of {', '.join(PERCENTILES)}."
        )
    if given == _Objective():
        raise ValueError(f"{key}: it says nothing. Write `ratio` or `slack` (beside the baseline), or `limit`.")
    return Objective(
        name,
        ratio=given.ratio,
        slack=None if given.slack is None else _number(f"{key}.slack", given.slack, pattern, example),
        limit=None if given.limit is None else _number(f"{key}.limit", given.limit, pattern, example),
    )


def _number(key: str, text: str, pattern: re.Pattern[str], example: str) -> float:
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{key}: {text!r} is not one. Write {example}.")
    return float(found[1]) / 100 if pattern is _PERCENT else float(found[1]) * UNITS[found[2]]


def _said(error: msgspec.ValidationError) -> str:
    """Put the key first: `objectives.failed.ratio: Expected …`."""
    complaint, _, place = str(error).partition(" - at `")
    key = _KEY.sub(r"\1", place.rstrip("`"))
    fix = "ops/rollout/guard.yaml shows every key."
    return f"{key}: {complaint}. {fix}" if key else f"{complaint}. {fix}"
