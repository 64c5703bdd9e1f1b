"""Does what the timetable says while the load runs, and notes when it was done."""

import time
from collections.abc import Callable

import msgspec

from loadtest.flips import Controls, Done, Flip, PlannedFlip
from loadtest.generator import Progress
from loadtest.plan import Plan


class Flipper:
    """Owns the flag from `prepare` to `end`; of a plan without flips it does nothing.

    All is done in the thread that hands the generator's reports on, since whoever owns servers may want one thread.
    """

    def __init__(self, played: Plan, controls: Controls | None, tell: Callable[[str], object]) -> None:
        self._plan, self._controls, self._tell = played, controls, tell
        self._due: list[PlannedFlip] = []
        self._done: list[Flip] = []
        self._began_ns = self._handovers = 0
        self._back_at_ns: int | None = None

    def prepare(self) -> None:
        """Send every message where the timetable begins. Raises ValueError if nobody can do the flips."""
        if self._plan.flips and self._controls is None:
            raise ValueError("nobody can flip the flag of this system: set DATABASE_URL to its database")
        if self._plan.flips and self._controls:
            self._handovers = self._controls.handovers() if self._controls.handovers else 0
            self._controls.flip(self._plan.flips.first)

    def heard(self, seen: Progress) -> None:
        """Do what is due; the timetable counts from the go-ahead of the block that counts."""
        if self._plan.flips is None or self._controls is None:
            return
        if seen.event == "ready" and self._plan.blocks[seen.block].quartet is not None:
            self._due, self._began_ns = list(self._plan.flips.flips), time.time_ns()
        if self._back_at_ns is not None and time.time_ns() >= self._back_at_ns:
            self._return_store(self._controls)
        while self._due and time.time_ns() >= self._began_ns + round(self._due[0].at_s * 1e9):
            self._flip(self._due.pop(0), self._plan.flips.outage_s, self._controls)

    def end(self) -> Done | None:
        """Leave the store as it was found, and give what was done; what was not due by now is not."""
        if self._plan.flips is None or self._controls is None:
            return None
        if self._back_at_ns is not None:
            self._return_store(self._controls)
        told = self._controls.handovers
        return Done(tuple(self._done), told() - self._handovers if told else None)

    def _flip(self, planned: PlannedFlip, outage_s: float, controls: Controls) -> None:
        assert self._plan.flips is not None
        before = self._done[-1].backend if self._done else self._plan.flips.first
        at_ns, lost_ns, killed = time.time_ns(), None, ""
        if planned.loses_store and controls.lose_store:
            controls.lose_store()
            lost_ns, killed = at_ns, ", and the chunk store is killed"
            self._back_at_ns = at_ns + round(outage_s * 1e9)
        controls.flip(planned.backend)
        self._done.append(Flip(at_ns, time.time_ns(), before, planned.backend, lost_ns))
        self._tell(f"flip {len(self._done)}/{len(self._plan.flips.flips)}: {before} → {planned.backend}{killed}")

    def _return_store(self, controls: Controls) -> None:
        if controls.return_store:
            controls.return_store()
        self._back_at_ns = None
        away = [place for place, one in enumerate(self._done) if one.lost_ns is not None and one.back_ns is None]
        for place in away:
            self._done[place] = msgspec.structs.replace(self._done[place], back_ns=time.time_ns())
        self._tell("the chunk store is back, and empty")
