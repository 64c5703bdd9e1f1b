"""Hand-made runs with flips: rows at chosen instants, to be broken by `replace`."""

from typing import Any

import msgspec

from loadtest.flips import Done, Flip, PlannedFlip, Timetable
from loadtest.recorder import StreamRow
from tests.support.stream_rows import MS, intact

BEGAN = 2_000_000_000 * MS
TIMES = Timetable(
    first="pubsub",
    flips=(PlannedFlip(10.0, "polling"), PlannedFlip(20.0, "streams", loses_store=True), PlannedFlip(40.0, "notify")),
    on_store=("pubsub", "streams"),
    safe="polling",
    outage_s=2.0,
    settle_s=3.0,
)
"""pubsub at first, polling from 10 s, streams from 20 s, notify from 40 s; the store is away from 20 to 22 s."""


def at(second: float) -> int:
    """That instant of the run."""
    return BEGAN + round(second * 1e9)


DONE = Done(
    (
        Flip(at(10), at(10.05), "pubsub", "polling"),
        Flip(at(20), at(20.05), "polling", "streams", lost_ns=at(20), back_ns=at(22)),
        Flip(at(40), at(40.05), "streams", "notify"),
    ),
    handovers=1,
)


def posted(
    second: float, backend: str, /, *, chunks: int = 20, arrival: int | None = None, **changes: Any
) -> StreamRow:
    """A whole stream that was posted then and went where the flag said."""
    number = round(second * 1000) if arrival is None else arrival
    row = intact(block=1, arrival=number, backend=backend, chunks=chunks, latency_ms=5)
    moved = at(second) - (row.sent_ns or 0)
    instants = ("intended_ns", "sent_ns", "accepted_ns", "opened_ns", "first_byte_ns", "terminal_ns", "closed_ns")
    times: dict[str, Any] = {name: getattr(row, name) + moved for name in instants}
    for name in ("produced_ns", "received_ns"):
        times[name] = tuple(one + moved for one in getattr(row, name))
    return msgspec.structs.replace(row, **{"flagged": True, "served": (backend,), **times, **changes})


def ended_on(row: StreamRow, backend: str) -> StreamRow:
    """The same, committed by another backend than the one that it began on."""
    assert row.committed is not None
    return msgspec.structs.replace(row, committed=msgspec.structs.replace(row.committed, backend=backend))
