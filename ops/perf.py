"""What `streamgauge perf` measures, brought up: each backend of a stack of ours, the floor, and the reference."""

import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.load import System
from ops import app_commands
from ops.app_commands import ROOT, answers
from ops.ports import LOOPBACK, free_port
from ops.processes import Command, Process
from ops.server_home import ServerHome
from ops.stack import Part, Stack, StackOptions, running_stack
from ops.supervisor import Supervisor
from ops.valkey_server import start_valkey

FLOOR, REFERENCE = "floor", "reference"
MOST_STREAMS = 10_000
"""That one worker may hold: above every load of ours."""
THEIRS = ("REDIS_URL", "BROKER_URL", "DATABASE_URL", "OPENAI_BASE_URL")
START_SECONDS = 60.0


@dataclass(frozen=True)
class Running:
    """The systems, the floor first and the reference last; `check` raises when a part of one has ended."""

    systems: Sequence[System]
    check: Callable[[], None]


@contextlib.contextmanager
def running_systems(
    folder: Path, backends: Sequence[str], *, reference: bool, announce: Callable[[Part], None]
) -> Iterator[Running]:
    """Own everything for the length of the block. Only servers of ours are measured, whatever the environment names."""
    allow_many_files()
    own = {name: value for name, value in os.environ.items() if name not in THEIRS}
    environment = {**own, "STREAMGAUGE_WORKER_CONCURRENCY": str(MOST_STREAMS)}
    options = StackOptions(folder / "stack", port=0, keep_data=False, environment=environment)
    (folder / "peers").mkdir(parents=True, exist_ok=True)
    with Supervisor(folder / "peers") as peers, running_stack(options, announce) as stack:
        home = ServerHome(peers, keep=False)
        starts = [_start_floor, *([_start_reference] if reference else [])]
        first, *last = [_announced(start, peers, home, own, announce) for start in starts]
        systems = [first, *(backend_of(name, stack) for name in backends), *last]

        def check() -> None:
            peers.check()
            stack.check()

        yield Running(systems, check)


def backend_of(name: str, stack: Stack) -> System:
    """One backend of a stack of ours, as the lean load sees it."""

    def renew() -> None:
        stack.restart(*(part for part in stack.processes if part.startswith(("worker-", "api-"))))

    return System(name, stack.api_url, lambda: _by_kind(stack.processes), backend=name, renew=renew)


def _announced(
    start: Callable[[Supervisor, ServerHome, Mapping[str, str]], System],
    supervisor: Supervisor,
    home: ServerHome,
    environment: Mapping[str, str],
    announce: Callable[[Part], None],
) -> System:
    began = time.monotonic()
    system = start(supervisor, home, environment)
    announce(Part(system.name, system.url, time.monotonic() - began))
    return system


def _start_floor(supervisor: Supervisor, home: ServerHome, environment: Mapping[str, str]) -> System:
    valkey = start_valkey(supervisor, home, name="floor-valkey")
    port = free_port()
    floor = ("loadtest.bench.floor",)
    worker = supervisor.start(_module("floor-worker", environment, *floor, "publish", valkey.url))
    api = supervisor.start(_module("floor-api", environment, *floor, "serve", valkey.url, str(port)))
    url = f"http://{LOOPBACK}:{port}"
    processes = {"worker": worker, "api": api, "valkey": valkey.process}

    def wait() -> None:
        supervisor.wait_ready(api, lambda: answers(f"{url}/"), START_SECONDS)

    wait()
    return System(
        FLOOR, url, lambda: _by_kind(processes), keeps_messages=False, renew=_renewing(supervisor, processes, wait)
    )


def _start_reference(supervisor: Supervisor, home: ServerHome, environment: Mapping[str, str]) -> System:
    valkey = start_valkey(supervisor, home, name="reference-valkey")
    model_port, port = free_port(), free_port()
    model_url = f"http://{LOOPBACK}:{model_port}/v1"
    environment = {**environment, "REDIS_URL": valkey.url, "OPENAI_BASE_URL": model_url}
    model = supervisor.start(_named("reference-model", app_commands.model_server(model_port, environment)))
    supervisor.wait_ready(model, lambda: answers(f"{model_url}/models"), START_SECONDS)
    worker = supervisor.start(
        _module(
            "reference-worker", environment,
            "celery", "-A", "loadtest.bench.reference.worker", "worker", "--pool", "gevent",
            "--concurrency", str(MOST_STREAMS), "--without-gossip", "--without-mingle", "--loglevel", "INFO",
        )
    )  # fmt: skip
    api = supervisor.start(
        _module(
            "reference-api", environment,
            "uvicorn", "loadtest.bench.reference.api:app", "--host", LOOPBACK, "--port", str(port),
            "--no-access-log", "--log-level", "warning", "--timeout-graceful-shutdown", "1",
        )
    )  # fmt: skip
    url = f"http://{LOOPBACK}:{port}"
    processes = {"worker": worker, "api": api, "valkey": valkey.process, "model": model}

    def wait() -> None:
        supervisor.wait_ready(api, lambda: answers(f"{url}/health"), START_SECONDS)
        supervisor.wait_ready(worker, lambda: worker.said(r"\S+@\S+ ready\."), START_SECONDS)

    wait()
    return System(REFERENCE, url, lambda: _by_kind(processes), renew=_renewing(supervisor, processes, wait))


def _renewing(supervisor: Supervisor, processes: Mapping[str, Process], wait: Callable[[], None]) -> Callable[[], None]:
    def renew() -> None:
        for kind in ("worker", "api"):
            supervisor.restart(processes[kind])
        wait()

    return renew


def _by_kind(processes: Mapping[str, Process]) -> dict[str, tuple[int, ...]]:
    """The pids of a stack's parts: `worker-1` and `worker-2` are of the kind `worker`."""
    kinds: dict[str, tuple[int, ...]] = {}
    for name, process in processes.items():
        kind = name.partition("-")[0]
        kinds[kind] = (*kinds.get(kind, ()), process.pid)
    return kinds


def _module(name: str, environment: Mapping[str, str], *module: str) -> Command:
    return Command(name, name, (sys.executable, "-m", *module), environment, ROOT)


def _named(name: str, command: Command) -> Command:
    return Command(name, name, command.argv, command.env, command.cwd)


def allow_many_files() -> None:
    """Raise our own limit of open files as far as we may; every process that we start inherits it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
