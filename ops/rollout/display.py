"""How the rollout stands, told to the database for the page. The journal stays the truth; nothing waits for this."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

from app.database import Database, DatabaseUnavailableError
from app.rollout_record import JudgementWord, ObjectiveWord, RolloutRecord, RolloutWord
from ops.rollout.guard import Objective
from ops.rollout.judge import Check, shown
from ops.rollout.state import Judgement, Phase, State

AWAY = (
    "the page is not told of this rollout: {error}. Start the database, or run `streamgauge migrate`; all else goes on"
)
RETRY_S = 2.0
PATIENCE_S = 5.0
STOPPED = "It stopped watching, and the flag stays as it is: `streamgauge rollout --resume` carries on."


class Display:
    """Tells the newest word beside the rollout, again and again while the database is away, and a last time at the end.

    A rollout neither hears nor waits whether that succeeds, but for seconds at the end of the block.
    """

    def __init__(
        self, database_url: str, warn: Callable[[str], None], patience_s: float = PATIENCE_S, *, pooler: bool = False
    ) -> None:
        self._warn, self._patience_s = warn, patience_s
        self._connect = partial(Database.connect, database_url, 1, pooler=pooler)
        self._newest: RolloutWord | None = None
        self._is_ending = threading.Event()
        self._teller = ThreadPoolExecutor(1, "display")
        self._was_away = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_ending.set()
        self._teller.shutdown(wait=True)

    def show(self, state: State, judgement: Judgement | None) -> None:
        """Show this from now on."""
        self._show(word_of(state, judgement, time.time()))

    def stop(self) -> None:
        """Show that somebody stopped the controller where it was."""
        if self._newest is not None:
            self._show(self._newest.model_copy(update={"phase": "stopped", "due_s": None, "why": STOPPED}))

    def _show(self, word: RolloutWord) -> None:
        self._newest = word
        self._teller.submit(self._tell, word, time.monotonic())

    def _tell(self, word: RolloutWord, at_s: float) -> None:
        while word is self._newest:
            try:
                asyncio.run(self._told(word, at_s))
            except (DatabaseUnavailableError, TimeoutError) as error:
                if not self._was_away:
                    self._warn(AWAY.format(error=error if str(error) else "no answer in time"))
                self._was_away = True
            else:
                self._was_away = False
                return
            if self._is_ending.wait(RETRY_S):
                return

    async def _told(self, word: RolloutWord, at_s: float) -> None:
        async with asyncio.timeout(self._patience_s), self._connect() as database:
            await RolloutRecord(database).tell(word, time.monotonic() - at_s)


def word_of(state: State, judgement: Judgement | None, now_s: float) -> RolloutWord:
    """Say how it stands at this moment."""
    return RolloutWord(
        candidate=state.candidate,
        baseline=state.baseline,
        phase=state.phase,
        generation=state.generation,
        steps=list(state.steps),
        step=state.position + 1,
        since=datetime.fromtimestamp(state.began_s, UTC) if state.began_s else None,
        due_s=_due_s(state, now_s),
        why=state.why,
        judgement=None if judgement is None else _judged(judgement),
    )


def _due_s(state: State, now_s: float) -> float | None:
    """Give in how many seconds the controller has something new to tell; None once it is over."""
    if state.is_over:
        return None
    if state.phase is not Phase.WATCHING:
        return 0.0
    return max(0.0, state.began_s + state.guard.cooldown_s - now_s) + state.interval_s


def _judged(judgement: Judgement) -> JudgementWord:
    return JudgementWord(
        at=datetime.fromisoformat(judgement.at),
        percent=judgement.percent,
        verdict=judgement.verdict,
        beside=judgement.beside,
        decision=judgement.decision,
        objectives=[_found(check) for check in judgement.checks],
    )


def _found(check: Check) -> ObjectiveWord:
    candidate, baseline = (
        "" if value is None else shown(Objective(check.objective), value) for value in (check.value, check.baseline)
    )
    return ObjectiveWord(
        name=check.objective, verdict=check.verdict, candidate=candidate, baseline=baseline, reason=check.reason
    )
