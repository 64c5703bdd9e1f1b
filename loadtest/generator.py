"""The load generator's process: started, listened to, stopped. It shares no interpreter with anything it measures."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from loadtest.clock import Offset

SCENARIO = Path(__file__).parent / "scenarios" / "player.py"
EXPOSING = SCENARIO.with_name("exposing.py")
ROOT = Path(__file__).parent.parent
LOOPBACK = "127.0.0.1"
STOP_WITHIN_S = 15.0
QUIET_S = 1.0


class GeneratorError(RuntimeError):
    """The load generator could not do its work; the message carries the end of its log."""


class Team(NamedTuple):
    """Who plays the plan: so many processes here, or so many workers that join at this port from wherever they are."""

    processes: int = 1
    expect_workers: int = 0
    port: int = 0

    @property
    def size(self) -> int:
        """How many there are."""
        return self.expect_workers or self.processes


ALONE = Team()


class Progress(msgspec.Struct, frozen=True):
    """What the generator reports: `ready` and `over` bracket a block, `progress` counts within it, `end` closes."""

    event: str
    block: int = 0
    open: int = 0
    done: int = 0
    chunks: int = 0


class Generator:
    """Locust in a process (and session) of its own; leaving the context stops it, so that no load outlives us."""

    def __init__(self, target: str, plan: Path, results: Path, team: Team = ALONE, exposed: Sequence[str] = ()) -> None:
        self._results, self._team, self._exposed = results, team, exposed
        self._ours, theirs = socket.socketpair()
        self._log = results / "locust.log"
        with theirs, (results / "locust.out").open("wb") as output:
            self._process = subprocess.Popen(
                self._command(target, plan, theirs.fileno()),
                cwd=results,  # no locust.conf or pyproject.toml of the caller's folder may change the run
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                # Ctrl-C is ours to hand on: the terminal must not stop both at once.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._ours.close()

    def reports(self) -> Iterator[Progress | None]:
        """Every report in order, until the plan was played; a generator that dies before raises GeneratorError.

        None where a while passes without one.
        """
        decoder = msgspec.json.Decoder(Progress)
        ended = False
        for line in self._lines():
            report = None if line is None else decoder.decode(line)
            ended = ended or (report is not None and report.event == "end")  # a worker's progress may come after it
            yield report
        if not ended:
            self._process.wait(STOP_WITHIN_S)
            raise GeneratorError(f"the load generator ended with code {self._process.returncode}: {self._tail()}")

    def _lines(self) -> Iterator[bytes | None]:
        self._ours.settimeout(QUIET_S)
        rest = b""
        while True:
            try:
                data = self._ours.recv(1 << 16)
            except TimeoutError:
                yield None
                continue
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines

    def go_on(self) -> None:
        """Answer `ready`, `over` or `end`: the generator waits for it."""
        self._ours.sendall(b"\n")

    def stop(self) -> None:
        """End the process; what was in flight is written as censored first. Safe to call twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # its workers too, which are of its session
            self._process.wait()

    def _command(self, target: str, plan: Path, control_fd: int) -> list[str]:
        files = [SCENARIO, EXPOSING] if self._exposed else [SCENARIO]
        return [
            *_locust(*files), *self._exposed,
            "--headless", "--users", str(self._team.size), "--spawn-rate", str(self._team.size),
            "--host", target, "--plan", str(plan), "--results", str(self._results), "--control-fd", str(control_fd),
            "--logfile", str(self._log), "--only-summary", "--exit-code-on-error", "0", *_team_options(self._team),
        ]  # fmt: skip

    def _tail(self) -> str:
        texts = [
            path.read_text(errors="replace") for path in (self._results / "locust.out", self._log) if path.exists()
        ]
        lines = "\n".join(texts).strip().splitlines()
        return " / ".join(lines[-5:]) or "it wrote no log"


def _locust(*files: Path) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", ",".join(map(str, files or (SCENARIO,)))]


def _team_options(team: Team) -> list[str]:
    if team.expect_workers:
        return ["--master", "--expect-workers", str(team.expect_workers), "--master-bind-port", str(team.port)]
    if team.processes > 1:
        port = str(team.port)
        here = ["--master-bind-host", LOOPBACK, "--master-host", LOOPBACK]
        return ["--processes", str(team.processes), *here, "--master-bind-port", port, "--master-port", port]
    return []


def worker(master: str, port: int, processes: int) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of load generators that join a master; it has to run in `SCENARIO`'s folder."""
    several = ["--processes", str(processes)] if processes > 1 else []
    return [*_locust(), "--worker", "--master-host", master, "--master-port", str(port), *several], _environment()


def exposing(port: int | None, offset: Offset) -> list[str]:
    """What makes a generator serve its own figures on this port while it runs; nothing without one."""
    return [] if port is None else ["--metrics-port", str(port), "--clock-offset-ns", str(offset.offset_ns)]


def _environment() -> dict[str, str]:
    """Ours, without settings that would reach into Locust, and with this package importable wherever we run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    path = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}
