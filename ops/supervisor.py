"""Owns the processes of one folder: starts them in order, notices a crash, ends them in the reverse order."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from ops.processes import Command, PartFailedError, Process, StackError, identity
from ops.signals import signals_call
from ops.usage import UsageError

POLL_SECONDS = 0.02
ORPHAN_SECONDS = 10.0


class Supervisor:
    """Every process started through it is ended when the block is left, however it is left.

    One supervisor a folder, held by a lock. A ledger of the processes lets the next supervisor of the folder end what
    one that was killed left behind, and nothing else: an entry counts only while its process is the very one that was
    started. While the parts are ending, a signal that would end the program kills them instead of waiting for them.
    Enter it in a thread that lives as long as the block: Linux ends children with the *thread* that made them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.processes: list[Process] = []
        self.after_stop: list[Callable[[], None]] = []
        """What to do once every part has ended, the last added first."""
        self._ledger = self.folder / "processes.json"
        self._lock: int | None = None
        self._patience = 1.0

    def __enter__(self) -> Self:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / "lock")
        except OSError as error:
            raise UsageError(f"{self.folder} can't hold logs and data: {error}. Name another folder.") from error
        _end_leftovers(self._ledger)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with signals_call(self._hurry):
            crash = self.crash()
            self.stop_all()
            for action in reversed(self.after_stop):
                action()
            self._ledger.unlink(missing_ok=True)
            if self._lock is not None:
                os.close(self._lock)
        if crash is not None and not isinstance(error, PartFailedError):
            raise crash from error

    def start(self, command: Command) -> Process:
        """Start a command with a fresh log; the log of its last run is kept beside it."""
        log = self.logs / f"{command.name}.log"
        if log.exists():
            log.replace(log.with_suffix(".previous.log"))
        process = Process(command, log)
        self.processes.append(process)
        self._write_ledger()
        return process

    def restart(self, process: Process) -> None:
        """Start a process of ours again on its old ports, after ending it if it still runs."""
        process.restart()
        self._write_ledger()

    def run(self, command: Command, seconds: float) -> None:
        """Run a command to its end. Raises `PartFailedError` when it fails or takes longer than `seconds`."""
        process = self.start(command)
        process.end_expected = True
        self._wait(process, lambda: not process.running, seconds, "did not finish")
        self.processes.remove(process)
        self._write_ledger()
        if process.ending() != "ended with exit code 0":
            raise process.failure(process.ending())

    def wait_ready(self, process: Process, ready: Callable[[], bool], seconds: float) -> None:
        """Return once `ready()` holds. Raises `PartFailedError` when any part ends first, or after `seconds`."""
        self._wait(process, ready, seconds, "was not ready")

    def _wait(self, process: Process, done: Callable[[], bool], seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            self.check()
            if time.monotonic() > deadline:
                raise process.failure(f"{complaint} within {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def crash(self) -> PartFailedError | None:
        """Give the error for the first part that ended by itself, if one did."""
        crashed = next((process for process in self.processes if process.crashed), None)
        return crashed.failure(crashed.ending()) if crashed else None

    def check(self) -> None:
        """Raise `PartFailedError` if a part has ended by itself."""
        if crash := self.crash():
            raise crash

    def watch(self, act: Callable[[], None] = lambda: None) -> None:
        """Call `act` again and again while every part runs; raises `PartFailedError` when one ends by itself."""
        while True:
            self.check()
            act()
            time.sleep(10 * POLL_SECONDS)

    def kill(self, *kinds: str) -> None:
        """End all parts of these kinds at once, whatever they are at."""
        for process in self.processes:
            if process.command.kind in kinds:
                process.kill()

    def stop_all(self) -> None:
        """End every part, last started first, the parts of one kind together; each has its own time to do so."""
        for _, group in groupby(reversed(self.processes), key=lambda process: process.command.kind):
            self._stop_together(list(group))
        self.processes.clear()

    def _stop_together(self, group: list[Process]) -> None:
        for process in group:
            process.ask_to_stop()
        started = time.monotonic()
        for process in group:
            while process.running and time.monotonic() < started + self._patience * process.command.stop_seconds:
                time.sleep(POLL_SECONDS)
            process.kill()

    def _hurry(self) -> None:
        self._patience = 0.0

    def _write_ledger(self) -> None:
        entries = [
            {"name": each.name, "pid": each.pid, "identity": each.identity, "signal": int(each.command.stop_signal)}
            for each in self.processes
        ]
        draft = self._ledger.with_suffix(".new")
        draft.write_text(json.dumps(entries, indent=1))
        draft.replace(self._ledger)


def _lock(path: Path) -> int:
    """Take the folder for this process, until it closes the descriptor or dies."""
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(held, 32).decode().strip() or "unknown"
        os.close(held)
        raise StackError(
            f"Process {owner} already runs a stack in {path.parent}: stop it, or start this one in another folder."
        ) from None
    os.ftruncate(held, 0)
    os.write(held, str(os.getpid()).encode())
    return held


def _end_leftovers(ledger: Path) -> None:
    """End what a killed supervisor of this folder left running, last started first."""
    try:
        entries = json.loads(ledger.read_text())
    except (FileNotFoundError, ValueError):
        return
    for entry in reversed(entries):
        _end(entry["pid"], entry["identity"], entry["signal"])
    ledger.unlink()


def _end(pid: int, expected: str, stop_signal: int) -> None:
    """End this process if it still is the one we started: in its own way, or by force; its children go with it.

    All of them may be paused. The children are asked for first: nobody knows them any more once it has gone.
    """
    if identity(pid) != expected:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        leftover = psutil.Process(pid)
        family = {each.pid: identity(each.pid) for each in (leftover, *leftover.children(recursive=True))}
        _signal({pid: expected}, stop_signal)
        _signal(family, signal.SIGCONT)
        _wait_gone({pid: expected})
        _signal(family, signal.SIGKILL)
        _wait_gone(family)


def _signal(processes: Mapping[int, str], number: int) -> None:
    for pid, expected in processes.items():
        with contextlib.suppress(ProcessLookupError):
            if identity(pid) == expected:
                os.kill(pid, number)


def _wait_gone(processes: Mapping[int, str]) -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    while time.monotonic() < deadline and any(identity(pid) == expected for pid, expected in processes.items()):
        time.sleep(POLL_SECONDS)
