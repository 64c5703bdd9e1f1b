"""What a player is told and whom it tells: here a player that is alone, with the parent process and files on disk."""

import csv
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import gevent.socket
import msgspec
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtest import plan as plans
from loadtest import recorder


class Line(Protocol):
    """Everything that differs between a player who is alone and one of several."""

    def plan(self) -> plans.Plan:
        """The plan; waits until it is known."""
        ...

    def share(self, arrivals: int) -> Sequence[int]:
        """Which of so many arrivals are this player's."""
        ...

    def ready(self, block: int) -> int:
        """Wait until the block may begin and give the instant from which its arrivals count."""
        ...

    def tell(self, block: int, open_: int, done: int, chunks: int) -> None:
        """Say how far it is."""
        ...

    def hand_in(self, rows: Sequence[recorder.StreamRow], account: recorder.GeneratorRow | None = None) -> None:
        """Give rows away; with the account of a block, those were its last."""
        ...

    def over(self, block: int) -> None:
        """Wait until everybody has finished the block."""
        ...

    def end(self) -> None:
        """Every block was played."""
        ...

    def close(self) -> None:
        """Nothing more will come, whether the plan was played or cut off."""
        ...


class Control:
    """The line to the parent: `tell` reports, `ask` also waits for the answer; without a parent both are quiet."""

    def __init__(self, fd: int) -> None:
        self._socket = None
        if fd >= 0:
            self._socket = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)

    def tell(self, **fact: Any) -> None:
        """Send one fact. A parent that is gone raises OSError, which ends the run."""
        if self._socket is not None:
            self._socket.sendall(msgspec.json.encode(fact) + b"\n")

    def ask(self, **fact: Any) -> None:
        """Send one fact and wait until the parent has dealt with it."""
        self.tell(**fact)
        if self._socket is not None and not self._socket.recv(1):
            raise ConnectionError("the parent process is gone")


class Files:
    """The run's folder: every row goes to streams.jsonl or generator.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, name: str, rows: Sequence[msgspec.Struct]) -> None:
        """Write rows to a file of that name."""
        with (self.folder / f"{name}.jsonl").open("ab") as file:
            recorder.append(file, rows)

    def locust_tables(self, environment: Any) -> None:
        """Locust's own --csv is written once a second and never at the end: the last streams would be missing."""
        tables = StatsCSV(environment, PERCENTILES_TO_REPORT)
        with (self.folder / "locust_stats.csv").open("w", newline="") as file:
            tables.requests_csv(csv.writer(file))
        with (self.folder / "locust_failures.csv").open("w", newline="") as file:
            tables.failures_csv(csv.writer(file))


class Alone:
    """One player for the whole plan."""

    def __init__(self, environment: Any) -> None:
        options = environment.parsed_options
        self._environment = environment
        self._plan = plans.load(Path(options.plan))
        self._control = Control(options.control_fd)
        self._files = Files(Path(options.results))

    def plan(self) -> plans.Plan:
        """From its file."""
        return self._plan

    def share(self, arrivals: int) -> Sequence[int]:
        """All of them."""
        return range(arrivals)

    def ready(self, block: int) -> int:
        """Now, when the parent is ready too."""
        self._control.ask(event="ready", block=block)
        return time.time_ns()

    def tell(self, block: int, open_: int, done: int, chunks: int) -> None:
        """To the parent."""
        self._control.tell(event="progress", block=block, open=open_, done=done, chunks=chunks)

    def hand_in(self, rows: Sequence[recorder.StreamRow], account: recorder.GeneratorRow | None = None) -> None:
        """To the files."""
        self._files.append("streams", rows)
        if account is not None:
            self._files.append("generator", [account])

    def over(self, block: int) -> None:
        """When the parent has read its counters."""
        self._control.ask(event="over", block=block)

    def end(self) -> None:
        """Tell the parent."""
        self._control.ask(event="end")

    def close(self) -> None:
        """Locust's tables are written, and Locust ends."""
        self._files.locust_tables(self._environment)
        self._environment.runner.quit()
