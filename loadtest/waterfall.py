"""The slowest streams, phase by phase: pure."""

from collections.abc import Iterable
from typing import NamedTuple

from loadtest.clock import Offset
from loadtest.live import live
from loadtest.recorder import StreamRow
from loadtest.summary import Measured

PHASES = ("late", "post", "waiting", "answer", "check")
"""Intended start → POST → accepted → first content → terminal → compared with the committed message."""


class Fall(NamedTuple):
    """One stream in seconds from its POST: where each phase ended, and the chunk that took longest."""

    backend: str
    block: int
    arrival: int
    late_s: float
    ends_s: tuple[float, ...]
    worst_s: float
    worst_at_s: float
    whole: bool


def slowest(streams: Iterable[Measured], offset: Offset, count: int) -> list[Fall]:
    """The streams with the slowest chunks, the worst first; broken ones before all others."""
    found = [fall for one in streams if (fall := _fall(one, offset)) is not None]
    return sorted(found, key=lambda one: (one.whole, -one.worst_s))[:count]


def _fall(one: Measured, offset: Offset) -> Fall | None:
    row = one.row
    if row.sent_ns is None or row.protocol == "openai":  # a model does not say which of its chunks was slow
        return None
    chunks = [
        (received_ns - produced_ns - offset.offset_ns, received_ns)
        for kind, produced_ns, received_ns, is_live in zip(
            row.kinds, row.produced_ns, row.received_ns, live(row, offset), strict=True
        )
        if kind == "content" and is_live
    ]
    worst_ns, worst_at_ns = max(chunks, default=(0, row.sent_ns))
    ends: list[float] = []
    for at_ns in (row.accepted_ns, _first_content(row), row.terminal_ns or row.closed_ns, row.verified_ns):
        before = ends[-1] if ends else 0.0
        ends.append(before if at_ns is None else max(before, (at_ns - row.sent_ns) / 1e9))
    return Fall(
        backend=row.backend,
        block=row.block,
        arrival=row.arrival,
        late_s=max(0.0, (row.sent_ns - row.intended_ns) / 1e9),
        ends_s=tuple(ends),
        worst_s=worst_ns / 1e9,
        worst_at_s=(worst_at_ns - row.sent_ns) / 1e9,
        whole=one.good,
    )


def _first_content(row: StreamRow) -> int | None:
    return next((at_ns for kind, at_ns in zip(row.kinds, row.received_ns, strict=True) if kind == "content"), None)
