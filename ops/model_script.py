"""What the scripted model says and when: parsed from its name, pure, the same for the same seed."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl

NAME = "scripted"
MAX_CHUNKS = 100_000
FAULTS = ("429", "500", "refuse", "cut", "stall", "garbage")
OPENING = "This is a scripted answer: no model wrote it, and its words are always these. "
PROSE = (
    "A stream gauge stands at the edge of the river and says, every few minutes, how high the water is. "
    "From the height and the shape of the bed follows the flow, and from years of flow follows what to expect: "
    "when the snow melts, how fast a storm upstream arrives, which bridge will be closed in the morning. "
    "Nobody who reads the gauge has to stand in the rain. The number is there before the flood is, and it is "
    "trusted because it has been checked against the water, again and again, by people with a rod and a boat. "
    "An answer that arrives word by word is a small river too. It has a source, a bed, and a mouth; it can be held "
    "up, split, or lost on the way. Whoever wants it to flow well must measure it where it is read. "
)
WORDS = tuple(word + " " for word in (OPENING + PROSE).split())


class ScriptError(ValueError):
    """A model name that can't be played; the message names the parameter and the accepted form."""


@dataclass(frozen=True, slots=True)
class Span:
    """A number that is the same every time, or log-normal about a median."""

    median: float
    sigma: float = 0.0

    def draw(self, source: random.Random) -> float:
        """Give the next value."""
        return self.median * math.exp(self.sigma * source.gauss(0, 1)) if self.sigma else self.median


@dataclass(frozen=True, slots=True)
class Script:
    """How one answer is paced and how it fails. Seconds; `chunks` None means as many as `max_tokens` says."""

    ttft: Span = Span(0.2)
    gap: Span = Span(0.05)
    chunks: Span | None = Span(60)
    seed: int | None = None
    fault: str | None = None
    at: int = 10
    tries: int | None = None
    """The fault holds for the first so many requests of this exact name; None: for all."""

    def deltas(self, max_tokens: int | None, source: random.Random) -> int:
        """Draw how many deltas the answer would have if nothing capped it."""
        if self.chunks is None:
            return max_tokens or MAX_CHUNKS
        return max(1, min(MAX_CHUNKS, round(self.chunks.draw(source))))

    def instants(self, count: int, source: random.Random) -> Iterator[float]:
        """Yield when each delta is due, in seconds after the request."""
        due = self.ttft.draw(source)
        for _ in range(count):
            yield due
            due += self.gap.draw(source)


PROFILES = {
    "chat": Script(ttft=Span(0.35, 0.4), gap=Span(0.02, 0.6), chunks=Span(180, 0.8)),
    "fast": Script(ttft=Span(0.08, 0.3), gap=Span(0.005, 0.4), chunks=Span(200, 0.6)),
    "slow": Script(ttft=Span(1.5, 0.5), gap=Span(0.12, 0.5), chunks=Span(120, 0.6)),
    "steady": Script(),
}


def word(index: int) -> str:
    """Give the text of a delta: prose that begins anew when it ends."""
    return WORDS[index % len(WORDS)]


def parse(model: str) -> Script | None:
    """Read a model's name; None when it is not a scripted one. Raises `ScriptError`."""
    name, _, query = model.partition("?")
    if name != NAME:
        return None
    given = dict(parse_qsl(query, keep_blank_values=True))
    profile = given.pop("profile", "steady")
    if profile not in PROFILES:
        raise ScriptError(f"profile={profile}: use one of {', '.join(PROFILES)}")
    unknown = set(given) - {field.name for field in fields(Script)}
    if unknown:
        known = ", ".join(field.name for field in fields(Script))
        raise ScriptError(f"{sorted(unknown)[0]} is no parameter of the scripted model: use profile, {known}")
    changes: dict[str, Any] = {key: _value(key, text) for key, text in given.items()}
    return replace(PROFILES[profile], **changes)


def _value(key: str, text: str) -> Span | int | str | None:
    if key == "fault":
        if text not in FAULTS:
            raise ScriptError(f"fault={text}: use one of {', '.join(FAULTS)}")
        return text
    if key in {"seed", "at", "tries"}:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise ScriptError(f"{key}={text}: use a whole number from 0 on")
        return int(text)
    if key == "chunks" and text == "max":
        return None
    return _span(key, text)


def _span(key: str, text: str) -> Span:
    inner = text.removeprefix("lognormal(").removesuffix(")")
    try:
        numbers = [float(part) for part in inner.split(",")]
    except ValueError:
        numbers = []
    wanted = 2 if text.startswith("lognormal(") and text.endswith(")") else 1
    if len(numbers) != wanted or not all(math.isfinite(number) and 0 <= number <= MAX_CHUNKS for number in numbers):
        raise ScriptError(f"{key}={text}: use a number from 0 to {MAX_CHUNKS}, or lognormal(MEDIAN,SIGMA)")
    return Span(*numbers)
