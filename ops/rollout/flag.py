"""The flag as a rollout moves it: a share of the conversations to the candidate, the rest to the baseline."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from app.database import Database, DatabaseUnavailableError
from app.records import Records
from app.settings import Settings
from app.streaming.backends import offered
from app.streaming.flag import FLAG, NO_GENERATION, describe, document_for
from ops.rollout.controller import FlagAwayError, FlagTakenError

WHOLE = 10_000
"""The weights of a split are hundredths of a percent."""
T = TypeVar("T")


class SplitFlag:
    """The flag in the database; it asks anew each time, and holds no connection in between."""

    def __init__(self, settings: Settings, candidate: str, baseline: str) -> None:
        self._settings, self._candidate, self._baseline = settings, candidate, baseline

    def look(self) -> tuple[int, float]:
        """Give the generation in force, and the candidate's percentage. Raises `FlagAwayError`."""
        newest = _asked(self._settings, lambda records: records.newest_flag(NO_GENERATION))
        return (newest[0], share_of(self._candidate, newest[1])) if newest else (NO_GENERATION, 0.0)

    def move(self, percent: float, generation: int, why: str) -> int:  # noqa: ARG002 - no document keeps a reason yet
        """Put a split in force, unless somebody else changed the flag: `FlagTakenError`. Raises `FlagAwayError`."""
        standing, _ = self.look()
        if standing != generation:
            raise FlagTakenError(f"The flag is at generation {standing}, and was at {generation}.")
        document = split(self._candidate, self._baseline, percent, offered(self._settings))
        return _asked(self._settings, lambda records: records.add_flag(document))


def in_force(settings: Settings) -> str:
    """Give the backend that new messages get by default now. Raises `FlagAwayError`."""
    newest = _asked(settings, lambda records: records.newest_flag(NO_GENERATION))
    return describe(newest[1] if newest else None, settings.default_backend)


def split(candidate: str, baseline: str, percent: float, backends: tuple[str, ...]) -> dict[str, Any]:
    """Write the document. The candidate comes first: so a conversation of a 10 % share is also one of a 30 % share."""
    document = document_for(baseline, backends)
    weight = round(percent * WHOLE / 100)
    shares = {"fractional": [[candidate, weight], [baseline, WHOLE - weight]]}
    document["flags"][FLAG]["targeting"]["if"][-1] = shares if weight else baseline
    return document


def share_of(candidate: str, document: str | None) -> float:
    """Give the percentage that a document of ours gives to the candidate; of any other, nothing is known: 0."""
    try:
        rest = json.loads(document or "")["flags"][FLAG]["targeting"]["if"][-1]
        return dict(rest["fractional"])[candidate] * 100 / WHOLE if isinstance(rest, dict) else 0.0
    except (ValueError, KeyError, TypeError, IndexError):
        return 0.0


def _asked(settings: Settings, ask: Callable[[Records], Awaitable[T]]) -> T:
    async def run() -> T:
        async with Database.connect(settings.database_url, 1) as database:
            return await ask(Records(database))

    try:
        return asyncio.run(run())
    except DatabaseUnavailableError as error:
        raise FlagAwayError(f"the database did not answer: {error}") from error
