"""Did the flips cost anything? Every stream is held against what it may do while the flag is flipped: pure.

A message may go to a backend that was the flag's between its POST and the answer to it. From then on its stream and all
its readers stay there. The loss of the chunk store allows two things more, and only to streams that it met: a new
message may go to the safe backend instead, and a stream may be handed over to it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from loadtest.flips import Done, Flip, Timetable
from loadtest.integrity import why_failed
from loadtest.recorder import StreamRow
from loadtest.summary import Measured
from loadtest.wording import counted

END_OF_TIME_NS = 1 << 63


class Turn(NamedTuple):
    """A backend's time as the flag's: from the order of the flip to it until the next one was in force."""

    backend: str
    from_ns: int
    until_ns: int


class Finding(NamedTuple):
    """What one stream did that it may not, in one of the `KINDS`."""

    kind: str
    what: str


KINDS = {
    "lost": "not whole: refused, cut off, or other than the message that was committed",
    "untold": "the system did not say which backend served it",
    "late": "posted after the flip, and answered by the backend before it",
    "moved": "ended on another backend than it began on, with no loss of its store to hand it over",
    "strayed": "a reader was served by another backend than the stream's",
    "not counted": "handed over more often than the system knows of",
}


class Course:
    """The flips of a run, and which backend a message may have got at which instant."""

    def __init__(self, times: Timetable, flips: Sequence[Flip]) -> None:
        self._times, self._flips = times, flips
        ends = [*(flip.done_ns for flip in flips[1:]), END_OF_TIME_NS]
        first = Turn(times.first, 0, flips[0].done_ns if flips else END_OF_TIME_NS)
        self.turns = [
            first,
            *(Turn(flip.backend, flip.at_ns, until_ns) for flip, until_ns in zip(flips, ends, strict=False)),
        ]

    def allowed(self, row: StreamRow) -> set[str]:
        """The flag's backends between a message's POST and the answer to it."""
        sent_ns, known_ns = row.sent_ns or 0, row.accepted_ns or 0
        return {turn.backend for turn in self.turns if turn.from_ns <= known_ns and sent_ns <= turn.until_ns}

    def is_rerouted(self, row: StreamRow) -> bool:
        """Whether the message went to the safe backend since the one it was for had lost its store."""
        allowed = self.allowed(row)
        return (
            row.backend == self._times.safe
            and row.backend not in allowed
            and not allowed.isdisjoint(self._times.on_store)
            and self._meets_loss(row.sent_ns or 0, row.accepted_ns or 0, self._times.settle_s)
        )

    def is_handed_over(self, row: StreamRow) -> bool:
        """Whether the stream of this message moved to the safe backend since it lost its store."""
        return self.may_move(row) and row.committed is not None and row.committed.backend == self._times.safe

    def may_move(self, row: StreamRow) -> bool:
        """Whether the stream of this message met the loss of its store."""
        meets = self._meets_loss(row.sent_ns or 0, row.closed_ns or END_OF_TIME_NS, 0)
        return row.backend in self._times.on_store and meets

    def places(self, row: StreamRow, *, may_move: bool) -> set[str]:
        """Where the readers of this stream may be served; one whose message nobody could read may have moved."""
        ended_on = row.committed.backend if row.committed else None
        return {row.backend, self._times.safe} if may_move and ended_on in (None, self._times.safe) else {row.backend}

    def _meets_loss(self, from_ns: int, until_ns: int, after_s: float) -> bool:
        return any(
            flip.lost_ns <= until_ns and from_ns <= (flip.back_ns or END_OF_TIME_NS) + after_s * 1e9
            for flip in self._flips
            if flip.lost_ns is not None
        )


def judge(streams: Sequence[Measured], times: Timetable, done: Done) -> dict[str, Any]:
    """The account of all streams, warm-ups too: how many, and what speaks against continuity."""
    course = Course(times, done.flips)
    messages = [one.row for one in streams if not one.row.viewer]
    movable = {(row.block, row.arrival) for row in messages if course.may_move(row)}
    handed_over = sum(course.is_handed_over(row) for row in messages)
    found = [
        finding
        for one in streams
        for finding in _findings(one, course, may_move=(one.row.block, one.row.arrival) in movable)
    ]
    if done.handovers is not None and handed_over > done.handovers:
        found.append(
            Finding("not counted", f"{counted(handed_over, 'stream')} moved; the workers counted {done.handovers}")
        )
    counts = Counter(finding.kind for finding in found)
    return {
        "messages": len(messages),
        "viewers": len(streams),
        "intact": sum(one.good for one in streams),
        "outcomes": dict(Counter(_outcome(row) for row in messages).most_common()),
        "handed_over": handed_over,
        "handovers_counted": done.handovers,
        "rerouted": sum(course.is_rerouted(row) for row in messages),
        "resumed": sum(len(one.row.resumes) for one in streams),
        "begun_anew": sum(any(index < 0 for index in one.row.indexes) for one in streams),
        "pairs": sorted({f"{before} → {after}" for before, after in pairwise(turn.backend for turn in course.turns)}),
        "broken": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "findings": [f"{finding.kind}: {finding.what}" for finding in found],
    }


def is_late(row: StreamRow, course: Course) -> bool:
    """Whether the message got a backend that was not the flag's any more, for no reason."""
    return bool(row.backend) and row.backend not in course.allowed(row) and not course.is_rerouted(row)


def _findings(one: Measured, course: Course, *, may_move: bool) -> Iterable[Finding]:
    row = one.row
    name = f"stream {row.task_id or f'{row.block}/{row.arrival}'}, viewer {row.viewer},"
    if one.faults:
        yield Finding(
            "lost", f"{name} {', '.join(sorted(one.faults))} ({why_failed(row) or row.error or 'see its row'})"
        )
    if not row.backend:
        if row.task_id is not None:
            yield Finding("untold", f"{name} was accepted")
        return
    if not row.viewer and is_late(row, course):
        flags = " or ".join(sorted(course.allowed(row)))
        yield Finding("late", f"{name} went to {row.backend} when the flag said {flags}")
    ended_on = row.committed.backend if row.committed else None
    if not row.viewer and ended_on not in (row.backend, None) and not course.is_handed_over(row):
        yield Finding("moved", f"{name} began on {row.backend} and ended on {ended_on}")
    if strayed := [served for served in row.served if served not in course.places(row, may_move=may_move)]:
        yield Finding("strayed", f"{name} of {row.backend} was served by {strayed[0]}")


def _outcome(row: StreamRow) -> str:
    if row.task_id is None:
        return "refused" if row.outcome == "failed" else row.outcome
    return row.kinds[-1] if row.terminal_ns and row.kinds else row.outcome
