"""What a rollout is doing, kept in a folder, so that a controller that was killed goes on where it was.

The folder has `state.json`, replaced whole at every turn; `judgements.jsonl`, one line an interval, only ever appended
to; and a lock, since two controllers would undo each other's work.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from ops.rollout.figures import Figures
from ops.rollout.guard import Guard
from ops.rollout.judge import Check, Verdict
from ops.usage import UsageError


class Phase(StrEnum):
    """Where a rollout is; the last four are its ends."""

    STEPPING = "stepping"
    """The flag is about to be moved, or just was: what is in force tells which."""
    WATCHING = "watching"
    RETURNING = "returning"
    """The flag is about to be moved back."""
    DONE = "done"
    ROLLED_BACK = "rolled back"
    HELD = "held"
    TAKEN = "taken over"
    """Somebody else changed the flag; theirs holds."""


class State(msgspec.Struct):
    """A rollout as it stands."""

    candidate: str
    baseline: str
    steps: tuple[float, ...]
    interval_s: float
    guard: Guard
    phase: Phase = Phase.STEPPING
    position: int = 0
    """Of the step, in `steps`."""
    generation: int = 0
    """Of the flag document that this rollout found or wrote last."""
    began_s: float = 0.0
    """When the step began, on the wall clock."""
    passes: int = 0
    failures: int = 0
    last_baseline: Figures | None = None
    """The newest figures of the baseline that had samples enough."""
    last_baseline_at: str = ""
    why: str = ""

    @property
    def percent(self) -> float:
        """Of the step."""
        return self.steps[self.position]

    @property
    def following(self) -> float | None:
        """The next step, if there is one."""
        return self.steps[self.position + 1] if self.position + 1 < len(self.steps) else None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do, or to resume."""
        return self.phase in (Phase.DONE, Phase.ROLLED_BACK, Phase.HELD, Phase.TAKEN)


class Judgement(msgspec.Struct, frozen=True):
    """One line of the record."""

    at: str
    candidate: str
    percent: float
    seconds: float
    verdict: Verdict
    beside: str
    """What the candidate was held against: the baseline now, its last figures, or limits alone."""
    checks: tuple[Check, ...] = ()
    decision: str = ""


class Journal:
    """The folder of a rollout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state, self._lines = folder / "state.json", folder / "judgements.jsonl"
        self._approval = folder / "approved"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only controller for the length of the block. Raises `UsageError` if another one is."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"A rollout runs in {self.folder} already: `streamgauge rollout --status` shows it."
                ) from error
            yield
        finally:
            os.close(lock)

    def read(self) -> State | None:
        """Give the state, or None if there never was one. Raises `UsageError` if it is no state of this version."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=State)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise UsageError(
                f"{self._state} is no rollout of this version ({error}): remove it to begin anew."
            ) from error

    def begin(self, state: State) -> None:
        """Forget the rollout before, and keep this one."""
        for path in (self._lines, self._approval):
            path.unlink(missing_ok=True)
        self.write(state)

    def write(self, state: State) -> None:
        """Keep the state: all of it, or what was there before."""
        draft = self._state.with_suffix(".new")
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._state)

    def add(self, judgement: Judgement) -> None:
        """Append to the record."""
        with self._lines.open("ab") as lines:
            lines.write(msgspec.json.encode(judgement) + b"\n")

    def judgements(self) -> list[Judgement]:
        """Give the record so far; a last line that was cut off by a kill is left out."""
        try:
            lines = self._lines.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Judgement) for line in lines]

    def approve(self, percent: float) -> None:
        """Let the rollout pass the gate of this step, and of all before it."""
        self._approval.write_text(f"{percent:g}\n")

    def approved(self) -> float:
        """Give the highest step that was approved so."""
        try:
            return float(self._approval.read_text())
        except (OSError, ValueError):
            return 0.0
