"""One process of the stack: started with its log, watched, and ended for certain."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LAUNCHER = Path(__file__).with_name("launch.py")
TAIL_LINES = 20


class StackError(Exception):
    """A part of the stack cannot do its work; the message says which one and what to do."""


class PartFailedError(StackError):
    """A part ended by itself or was not ready in time; the message ends with the tail of its log."""

    def __init__(self, what: str, log: Path) -> None:
        super().__init__(f"{what}\n{tail(log)}")
        self.what, self.log = what, log


@dataclass(frozen=True)
class Account:
    """The unprivileged user that servers run as when we are root."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Command:
    """What to run, and how it wants to be ended."""

    name: str
    kind: str
    """Parts of one kind that were started one after the other are ended together."""
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    account: Account | None = None
    stdin: str = field(default="", repr=False)
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0
    orphan_signal: int = signal.SIGKILL
    """What the kernel sends it when the supervisor dies without a word (Linux)."""

    def launch_argv(self) -> list[str]:
        """Give the argv that starts it as its account and ties its life to ours."""
        uid, gid = (self.account.uid, self.account.gid) if self.account else (-1, -1)
        ties = [str(value) for value in (os.getpid(), uid, gid, int(self.orphan_signal))]
        return [sys.executable, "-I", "-S", str(LAUNCHER), *ties, *self.argv]


class Process:
    """A started command. It leads a session of its own, so a Ctrl-C in the terminal reaches only the supervisor."""

    def __init__(self, command: Command, log: Path) -> None:
        self.command, self.log = command, log
        self.end_expected = False
        self._popen = self._start()
        self.identity = identity(self.pid)

    @property
    def name(self) -> str:
        """The part's name, as in its log file's."""
        return self.command.name

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Tell whether it has not ended yet."""
        return self._popen.poll() is None

    @property
    def crashed(self) -> bool:
        """Tell whether it ended without having been told to."""
        return not self.running and not self.end_expected

    def said(self, pattern: str) -> bool:
        """Tell whether its log, since this start of it, has a match."""
        with self.log.open(errors="replace") as log:
            log.seek(self._log_begins)
            return re.search(pattern, log.read()) is not None

    def failure(self, what: str) -> PartFailedError:
        """Make the error that says what this part did, with the tail of its log."""
        return PartFailedError(f"{self.name} {what}", self.log)

    def ending(self) -> str:
        """Say how it ended: by which exit code or signal."""
        code = self._popen.returncode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
        return f"was ended by signal {-code}"

    def ask_to_stop(self) -> None:
        """Send its stop signal, also to one that is paused; `finish_stop` waits for it."""
        self.end_expected = True
        self._popen.send_signal(self.command.stop_signal)
        self.resume()

    def finish_stop(self, deadline: float) -> None:
        """Wait for its end until the monotonic `deadline`, then kill it and its children."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def stop(self) -> None:
        """End it in its own orderly way, or by force when that takes too long."""
        self.ask_to_stop()
        self.finish_stop(time.monotonic() + self.command.stop_seconds)

    def kill(self) -> None:
        """End it and its children at once, as a crash of the machine would."""
        self.end_expected = True
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def pause(self) -> None:
        """Stop its clock and its children's: they keep their connections and answer nothing until `resume`."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal_all(signal.SIGCONT)

    def restart(self) -> None:
        """Start the same command again, on the same ports; its log goes on in the same file."""
        self.stop()
        self._popen = self._start()
        self.identity = identity(self.pid)
        self.end_expected = False

    def _signal_all(self, number: int) -> None:
        """Signal it first, so that it makes no more children; each session of PostgreSQL's is a child by itself."""
        self._popen.send_signal(number)
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(number)

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            started = subprocess.Popen(
                self.command.launch_argv(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.command.cwd,
                env=dict(self.command.env),
                start_new_session=True,
            )
        assert started.stdin is not None
        with contextlib.suppress(BrokenPipeError), started.stdin as stdin:
            stdin.write(self.command.stdin.encode())
        return started


def identity(pid: int) -> str:
    """Name this process among all that ever had its pid; empty when there is none, or only its exit code is left."""
    try:
        if sys.platform == "linux":
            # Start time in clock ticks since boot, and the boot: exact, whatever happens to the wall clock.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return "" if fields[0] in "ZX" else f"{boot}:{fields[19]}"
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (OSError, psutil.NoSuchProcess):
        return ""


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Give the last lines of a log under a heading that names it."""
    try:
        text = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        text = []
    return "\n".join([f"--- last lines of {log} ---", *(_readable(line) for line in text or ["(empty)"])])


def _readable(line: str) -> str:
    """Give a log line as a person reads it, also one that our processes wrote as JSON."""
    try:
        said = json.loads(line)
        words = f"{said['level'].upper()} {said['logger']}: {said['event']}"
    except (ValueError, TypeError, KeyError):
        return line
    return "\n".join([words, *([said["exception"]] if "exception" in said else [])])
