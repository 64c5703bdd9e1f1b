"""Real `celery worker` processes over a real Valkey, and what their tasks noted."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from celery import Celery

from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import PATIENCE_S, until

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "tests.support.pool_app."


class Workers:
    """Starts workers of `tests.support.pool_app`, sends them tasks, and reads what they noted."""

    def __init__(self, valkey: RunningValkey, broker_url: str, directory: Path, settings: dict[str, Any]) -> None:
        self._broker_url, self._directory, self._settings = broker_url, directory, settings
        self._log, self._gates = directory / "events", directory / "gates"
        self._log.touch()
        self._gates.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []
        self.use(valkey)

    def use(self, valkey: RunningValkey) -> None:
        """Send tasks to this server from now on, and look for them there."""
        self.valkey, self.client = valkey, Celery("client", broker=valkey.url)
        self.client.conf.update(task_ignore_result=True, broker_transport_options={"socket_timeout": 5})

    def start(self) -> "subprocess.Popen[bytes]":
        """A worker that has entered its lifespan and consumes."""
        before, number = self.count("lifespan-entered"), len(self._running)
        worker = self.spawn()
        until(lambda: self.count("lifespan-entered") > before and self._is_ready(number), "the worker is ready")
        return worker

    def spawn(self) -> "subprocess.Popen[bytes]":
        """A worker that may not even start."""
        environment = {
            **os.environ,
            "POOL_TEST_LOG": str(self._log),
            "POOL_TEST_GATES": str(self._gates),
            "POOL_TEST_BROKER": self._broker_url,
            "POOL_TEST_SETTINGS": json.dumps(self._settings),
            "PYTHONPATH": str(ROOT),
        }
        number = len(self._running)
        options = ["--without-gossip", "--without-mingle", "-l", "info", "-n", f"worker{number}@test"]
        command = [sys.executable, "-m", "celery", "-A", "tests.support.pool_app", "worker", *options]
        with (self._directory / f"worker{number}.out").open("wb") as out:
            worker = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        self._running.append(worker)
        return worker

    def _is_ready(self, number: int) -> bool:
        return " ready." in self.output(number)

    def output(self, number: int = 0) -> str:
        """What worker `number` has logged."""
        return (self._directory / f"worker{number}.out").read_text()

    def send(self, name: str, *args: object, **options: Any) -> str:
        """Enqueue one task; its id."""
        return str(self.client.send_task(PREFIX + name, args=args, **options).id)

    def open_gate(self, name: str) -> None:
        """Let the tasks go on that wait for this gate."""
        (self._gates / name).touch()

    def events(self) -> list[str]:
        """All lines so far, oldest first."""
        return self._log.read_text().splitlines()

    def count(self, event: str) -> int:
        """How many lines begin with this event, with an id or without."""
        return sum(line == event or line.startswith(event + " ") for line in self.events())

    def wait_for(self, event: str, times: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Return once the event was noted `times` times."""
        what = f"{times} × {event!r}"
        try:
            until(lambda: self.count(event) >= times, what, timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{Counter(self.events())}\n{self.output()[-3000:]}") from None

    def unacknowledged(self) -> int:
        """Messages the broker has delivered and not seen acknowledged."""
        with self.valkey.client() as client:
            return int(client.hlen("unacked"))

    def queued(self) -> int:
        """Messages that wait for a worker."""
        with self.valkey.client() as client:
            return int(client.llen("celery"))

    def wait_settled(self, timeout_s: float = PATIENCE_S) -> None:
        """Return once the broker holds no message, waiting or delivered."""
        until(lambda: not self.unacknowledged() and not self.queued(), "every message is acknowledged", timeout_s)

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self._running:
            if worker.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(worker.pid).send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait(10)
        self.client.pool.force_close_all()
        self.client.close()


@contextlib.contextmanager
def pool_workers(**settings: Any) -> Iterator[Workers]:
    """A Valkey and a place for workers, whose `pool.configure` gets these settings."""
    with running_valkey() as valkey, workers_on(valkey, valkey.url, **settings) as workers:
        yield workers


@contextlib.contextmanager
def workers_on(valkey: RunningValkey, broker_url: str, **settings: Any) -> Iterator[Workers]:
    """A place for workers that find this Valkey by the URL."""
    directory = Path(tempfile.mkdtemp(prefix="pool-"))
    workers = Workers(valkey, broker_url, directory, settings)
    try:
        yield workers
    finally:
        workers.close()
        shutil.rmtree(directory, ignore_errors=True)


def hold(workers: Workers, gate: str, number: int) -> list[str]:
    """Start `number` tasks that wait for the gate."""
    ids = [workers.send("hold", gate) for _ in range(number)]
    for task_id in ids:
        workers.wait_for(f"start {task_id}")
    return ids


def assert_each_ran_once(workers: Workers, ids: list[str]) -> None:
    for task_id in ids:
        workers.wait_for(f"end {task_id}")
    assert [workers.count(f"start {task_id}") for task_id in ids] == [1] * len(ids)
    assert [workers.count(f"end {task_id}") for task_id in ids] == [1] * len(ids)


def pass_time(seconds: float) -> None:
    """Let timeouts lapse that the test is about."""
    over = time.monotonic() + seconds
    until(lambda: time.monotonic() > over, f"{seconds} s have passed", seconds + 5)
