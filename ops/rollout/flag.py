"""The flag as a rollout moves it: a share of the conversations to the candidate, the rest to the baseline."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from app.flag_records import FlagMovedError
from app.flags import Edit, Flags, Standing
from app.settings import Settings
from ops.flag_access import recorded
from ops.processes import StackError
from ops.rollout.controller import FlagAwayError, FlagTakenError

WHO = "streamgauge rollout"
T = TypeVar("T")


class SplitFlag:
    """The flag in the database; it asks anew each time, and holds no connection in between."""

    def __init__(self, settings: Settings, candidate: str, baseline: str) -> None:
        self._settings, self._candidate, self._baseline = settings, candidate, baseline

    def look(self) -> tuple[int, float]:
        """Give the generation in force, and the candidate's percentage. Raises `FlagAwayError`."""
        standing = _standing(self._settings)
        return standing.generation, standing.rules.share_of(self._candidate) if standing.rules else 0.0

    def move(self, percent: float, generation: int, why: str) -> int:
        """Put a split in force, unless somebody else changed the flag: `FlagTakenError`. Raises `FlagAwayError`."""
        shares = {self._candidate: percent} if percent else {}
        edit = Edit(lambda rules: replace(rules, default=self._baseline, shares=shares, is_on=True, must_leave=False))
        try:
            change = _asked(self._settings, lambda flags: flags.change(edit, by=WHO, reason=why, expected=generation))
        except FlagMovedError as error:
            raise FlagTakenError(f"The flag is at generation {error.generation}, and was at {generation}.") from error
        assert change.generation is not None
        return change.generation


def in_force(settings: Settings) -> str:
    """Give the backend that new messages get by default now. Raises `FlagAwayError`."""
    standing = _standing(settings)
    return standing.rules.default if standing.rules else settings.default_backend


def _standing(settings: Settings) -> Standing:
    return _asked(settings, lambda flags: flags.standing())


def _asked(settings: Settings, ask: Callable[[Flags], Awaitable[T]]) -> T:
    try:
        return recorded(settings.database_url, lambda records: ask(Flags(records, settings)))
    except StackError as error:
        raise FlagAwayError(str(error)) from error
