"""How long the load will go on, as far as the plan and the blocks that are over tell."""

from loadtest.generator import Progress
from loadtest.plan import MODEL_TTFT_S, Block, Plan


class Remaining:
    """The planned length of what is not over, stretched as the blocks so far were.

    Streams that ended tell too little: of a run's first ones none has for as long as an answer is.
    """

    def __init__(self, plan: Plan, now_s: float) -> None:
        self._planned = [_planned_s(block, plan.chunk_rate) for block in plan.blocks]
        self._over = 0
        self._began_s = self._block_began_s = now_s

    def heard(self, seen: Progress, now_s: float) -> None:
        """Take one report of the generator."""
        if seen.event == "over":
            self._over, self._block_began_s = seen.block + 1, now_s

    def left_s(self, now_s: float) -> float:
        """From now, never below 0."""
        over_s = sum(self._planned[: self._over])
        stretch = max(1.0, (self._block_began_s - self._began_s) / over_s) if over_s else 1.0
        this_s = now_s - self._block_began_s
        current_s, *later_s = [stretch * one for one in self._planned[self._over :]] or [0.0]
        return max(0.0, current_s - this_s) + sum(later_s)


def _planned_s(block: Block, chunk_rate: float | None) -> float:
    """When its last answer ends, as the model paces it; where the pace is not known, when it begins."""
    chunk_s = 1 / chunk_rate if chunk_rate else 0.0
    return max((one.at_s + MODEL_TTFT_S + chunk_s * (one.chunks or 0) for one in block.arrivals), default=0.0)
