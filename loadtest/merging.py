"""What several load generators recorded, put on one clock: pure.

Each worker's host has a clock of its own, so each measures how far the target's is from it, and its rows are moved to
the target's. What is left is the uncertainty of that, which the verdict judges.
"""

from collections.abc import Sequence

import msgspec

from loadtest.clock import Offset
from loadtest.recorder import Resume, StreamRow

INSTANTS = (
    "intended_ns", "sent_ns", "accepted_ns", "opened_ns", "first_byte_ns", "terminal_ns", "closed_ns", "verified_ns",
    "cancelled_ns", "cancel_taken_ns",
)  # fmt: skip


class Clocks(msgspec.Struct, frozen=True):
    """A worker's offsets before its first block and after its last; null when it was lost before it could tell."""

    worker: str
    before: Offset
    after: Offset | None


def on_the_targets_clock(row: StreamRow, offset: Offset) -> StreamRow:
    """The row with every instant of ours as the target's clock would have shown it."""
    if not offset.offset_ns:
        return row

    def moved(at_ns: int | None) -> int | None:
        return None if at_ns is None else at_ns - offset.offset_ns

    return msgspec.structs.replace(
        row,
        **{name: moved(getattr(row, name)) for name in INSTANTS},
        received_ns=tuple(at_ns - offset.offset_ns for at_ns in row.received_ns),
        resumes=tuple(
            Resume(one.dropped_ns - offset.offset_ns, one.opened_ns - offset.offset_ns, one.events_before)
            for one in row.resumes
        ),
    )


def combined(clocks: Sequence[Clocks]) -> tuple[Offset, Offset]:
    """What is left of the offsets when rows are on the target's clock, at the start and at the end of the run.

    The bound is the worst worker's; the offset at the end is what the least steady clock has moved since.
    """
    same_host = all(one.before.same_host for one in clocks)
    before = Offset(same_host, 0, max((one.before.bound_ns for one in clocks), default=0))
    ends = [(one.after.offset_ns - one.before.offset_ns, one.after.bound_ns) for one in clocks if one.after is not None]
    if not ends:
        return before, before
    moved = max((drift for drift, _ in ends), key=abs)
    return before, Offset(same_host, moved, max(bound for _, bound in ends))
