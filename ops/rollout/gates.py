"""Who may let a rollout past a gate: a person at this terminal or at any other, or a webhook that is a gate."""

import select
import sys
import time
from collections.abc import Callable
from typing import TextIO

from ops.rollout.state import Journal, State
from ops.rollout.webhooks import Webhooks


class Gates:
    """Looks whether somebody has approved a step; who can be asked is asked once an interval."""

    def __init__(
        self, journal: Journal, webhooks: Webhooks, say: Callable[[str], None], terminal: TextIO = sys.stdin
    ) -> None:
        self._journal, self._webhooks, self._say, self._terminal = journal, webhooks, say, terminal
        self._asked_s = float("-inf")
        self._told = 0.0

    def is_open(self, state: State, percent: float) -> bool:
        """Tell whether the step may begin."""
        if self._told != percent:
            self._told = percent
            here = "type y and Enter, or " if self._terminal.isatty() else ""
            self._say(f"gate: may {state.candidate} go on to {percent:g} %? {here}run `streamgauge rollout --approve`")
        return self._journal.approved() >= percent or self._is_typed() or self._is_granted(state, percent)

    def _is_typed(self) -> bool:
        if not self._terminal.isatty() or not select.select([self._terminal], [], [], 0)[0]:
            return False
        return self._terminal.readline().strip().lower() in ("y", "yes")

    def _is_granted(self, state: State, percent: float) -> bool:
        if time.monotonic() - self._asked_s < state.interval_s:
            return False
        self._asked_s = time.monotonic()
        return self._webhooks.gates_open(candidate=state.candidate, baseline=state.baseline, step=percent)
