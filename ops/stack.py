"""The whole system on this machine: real servers, workers and APIs, up in order and down in the reverse order.

A person's own servers are used instead of ours where REDIS_URL, BROKER_URL, DATABASE_URL or OPENAI_BASE_URL name them.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ops import app_commands
from ops.app_commands import answers, consumes
from ops.exporters import exporters
from ops.ports import LOOPBACK, free_port, without_password
from ops.postgres_server import check_database, named_database, start_postgres
from ops.processes import Process
from ops.prometheus_server import find_prometheus, prometheus
from ops.sentinel import server_of
from ops.server_home import ServerHome
from ops.supervisor import Supervisor
from ops.valkey_server import check_answers, start_valkey

FOLDER = Path(".streamgauge")
ADDRESSES = "addresses.json"
"""In the stack's folder, while it runs: where its processes serve their metrics."""
STEP_SECONDS = 60.0
"""The time limit of the migration, and of each process of ours until it answers."""
BENCH_METRICS_PORT = 9646
"""The port that Prometheus's list of exporters gives to Locust."""
ROLLOUT_METRICS_PORT = 9647
QUEUE_ON_DISK = "appendonly yes\nappendfsync everysec\n"


@dataclass(frozen=True)
class StackOptions:
    """How large the stack is and where it lives."""

    folder: Path = FOLDER
    workers: int = 1
    apis: int = 1
    port: int | None = None
    """Of the first API; None takes 8000 if that is free and any other port if not."""
    keep_data: bool = True
    """Keep the databases for the next start; a measurement begins with empty ones instead."""
    traces: bool = False
    """Keep every span of this run in the folder, for `streamgauge trace`; a measurement does without."""
    observe: bool = False
    """Start Prometheus beside it, and the servers' exporters where they are installed."""
    bench_metrics_port: int = BENCH_METRICS_PORT
    """Where that Prometheus looks for a `streamgauge bench --metrics-port`."""
    rollout_metrics_port: int = ROLLOUT_METRICS_PORT
    """And for a `streamgauge rollout --metrics-port`."""
    control_url: str = ""
    """Where the page may send orders, if anywhere."""
    operator_token: str = field(default="", repr=False)
    """What opens `/ops` of the APIs, if anything."""
    asks_for_keys: bool = False
    """Guard it by the keys and tokens of the environment; a measurement's own one, on loopback, asks for none."""
    own_broker: bool = False
    """Queue tasks in a server beside the chunk store, which keeps them on disk, as production should."""
    model_only: bool = False
    """Start the scripted model and nothing else, for a measurement that asks it directly."""
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)


@dataclass(frozen=True)
class Part:
    """A line of what is up: its name, where it listens, and the seconds to ready (None: a person's own server)."""

    name: str
    address: str
    seconds: float | None


class Stack:
    """What is running and where. Chaos tests find each process in `processes` and start it anew with `restart`."""

    def __init__(self, options: StackOptions, supervisor: Supervisor, announce: Callable[[Part], None]) -> None:
        given = options.environment
        self._options, self._supervisor, self._announce = options, supervisor, announce
        self.redis_url = given.get("REDIS_URL", "")
        self.broker_url = given.get("BROKER_URL", "")
        self.database_url = named_database(given) or ""
        self.openai_base_url = given.get("OPENAI_BASE_URL", "")
        self.scripted_model = not self.openai_base_url
        """Whether answers come from our own model server, which takes its pace from the model's name."""
        self.api_urls: list[str] = []
        self.worker_metrics_urls: list[str] = []
        self.prometheus_url = ""
        self.exporter_urls: dict[str, str] = {}
        """Of the servers' exporters that are installed, by the job's name; only where it is observed."""
        self.parts: list[Part] = []
        self._is_ready: dict[str, Callable[[], bool]] = {}

    @property
    def api_url(self) -> str:
        """The first API's URL."""
        return self.api_urls[0]

    @property
    def processes(self) -> dict[str, Process]:
        """Every process of ours by its name: valkey, postgres, model, worker-1, …, api-1, …"""
        return {process.name: process for process in self._supervisor.processes}

    @property
    def logs(self) -> Path:
        """The folder with one log a part."""
        return self._supervisor.logs

    @property
    def traces(self) -> Path:
        """The folder with the spans of this run."""
        return self._supervisor.folder / "traces"

    def restart(self, *names: str) -> None:
        """Start parts again on their old ports, ending those that still run first, and wait until all are ready."""
        processes = [self.processes[name] for name in names]
        for process in processes:
            self._supervisor.restart(process)
        for process in processes:
            self._supervisor.wait_ready(process, self._is_ready[process.name], STEP_SECONDS)

    def check(self) -> None:
        """Raise `PartFailedError`, with the tail of its log, if a part has ended by itself."""
        self._supervisor.check()

    def give_up(self) -> None:
        """End workers and APIs at once, with their streams; not where servers that outlive us would keep those open."""
        if not self._options.keep_data and {"valkey", "postgres"} <= self.processes.keys():
            self._supervisor.kill("worker", "api")

    def watch(self, act: Callable[[], None]) -> None:
        """Call `act` again and again while every part runs; raises `PartFailedError` when one ends by itself."""
        self._supervisor.watch(act)

    def environment(self) -> dict[str, str]:
        """Give the environment in which a process of the app joins this stack."""
        ours = {
            "REDIS_URL": self.redis_url,
            "BROKER_URL": self.broker_url,
            "DATABASE_URL": self.database_url,
            "OPENAI_BASE_URL": self.openai_base_url,
        }
        if self.scripted_model:
            # The scripted server needs no key, and a person's real one has no business there.
            ours |= {
                "OPENAI_API_KEY": "scripted",
                "OPENAI_MODEL": "scripted",
                "STREAMGAUGE_ALLOWED_MODELS": "scripted*",
            }
        if self._options.control_url:
            ours["STREAMGAUGE_CONTROL_URL"] = self._options.control_url
        if self._options.operator_token:
            ours["STREAMGAUGE_OPERATOR_TOKEN"] = self._options.operator_token
        if self._options.traces:
            ours["STREAMGAUGE_TRACE_FOLDER"] = str(self.traces)
        given = self._options.environment
        return {**(given if self._options.asks_for_keys else app_commands.unguarded(given)), **ours}

    def start(self) -> None:
        """Bring everything up. Each step has a time limit, and fails with the log of the part that missed it."""
        if self._options.observe:
            find_prometheus()  # before anything has started
        shutil.rmtree(self.traces, ignore_errors=True)
        if self._options.model_only:
            if self.scripted_model:
                self._start_model()()
            return
        # Chosen first: a taken port should not be found out after everything else has started.
        api_ports = [app_commands.api_port(self._options.port), *(free_port() for _ in range(1, self._options.apis))]
        self._find_servers()
        self._start_servers(ServerHome(self._supervisor, keep=self._options.keep_data))
        starting = [self._start_model()] if self.scripted_model else []
        with self._timed("migrations", lambda: ""):
            self._supervisor.run(app_commands.migrate(self.environment()), STEP_SECONDS)
        starting += [self._start_worker(number + 1) for number in range(self._options.workers)]
        starting += [self._start_api(number + 1, port) for number, port in enumerate(api_ports)]
        if self._options.observe:
            starting += [*self._start_exporters(), self._start_prometheus()]
        for wait in starting:
            wait()
        self._leave_addresses()

    def _leave_addresses(self) -> None:
        """Let commands that watch this system find it, for as long as it runs."""
        addresses = self._supervisor.folder / ADDRESSES
        found = {"metrics": [*(f"{url}/metrics" for url in self.api_urls), *self.worker_metrics_urls]}
        addresses.write_text(json.dumps(found, indent=1))
        self._supervisor.after_stop.append(lambda: addresses.unlink(missing_ok=True))

    def _find_servers(self) -> None:
        """Ask a person's own servers for an answer, before any of ours starts in vain."""
        if self.redis_url:
            check_answers("REDIS_URL", self.redis_url)
            self._report("chunk store", self.redis_url)
        if self.broker_url:
            check_answers("BROKER_URL", self.broker_url)
            self._report("broker", self.broker_url)
        if self.database_url:
            check_database(self.database_url)
            self._report("database", self.database_url)
        if not self.scripted_model:
            self._report("model", self.openai_base_url)

    def _start_servers(self, home: ServerHome) -> None:
        if not self.redis_url:
            with self._timed("valkey", lambda: self.redis_url):
                valkey = start_valkey(self._supervisor, home)
                self.redis_url, self._is_ready["valkey"] = valkey.url, valkey.is_ready
        if not self.broker_url and self._options.own_broker:
            with self._timed("broker", lambda: self.broker_url):
                broker = start_valkey(self._supervisor, home, QUEUE_ON_DISK, "broker")
                self.broker_url, self._is_ready["broker"] = broker.url, broker.is_ready
        self.broker_url = self.broker_url or self.redis_url
        if not self.database_url:
            with self._timed("postgres", lambda: self.database_url):
                postgres = start_postgres(self._supervisor, home)
                self.database_url, self._is_ready["postgres"] = postgres.url, postgres.is_ready

    def _start_model(self) -> Callable[[], None]:
        port = free_port()
        self.openai_base_url = f"http://{LOOPBACK}:{port}/v1"
        process = self._supervisor.start(app_commands.model_server(port, self.environment()))
        return self._ready(process, self.openai_base_url, lambda: answers(f"{self.openai_base_url}/models"))

    def _start_worker(self, number: int) -> Callable[[], None]:
        port = free_port()
        address = f"http://{LOOPBACK}:{port}"
        self.worker_metrics_urls.append(f"{address}/metrics")
        process = self._supervisor.start(app_commands.worker(number, port, self.environment()))
        return self._ready(process, address, lambda: answers(f"{address}/metrics") and consumes(process))

    def _start_api(self, number: int, port: int) -> Callable[[], None]:
        address = f"http://{LOOPBACK}:{port}"
        self.api_urls.append(address)
        process = self._supervisor.start(app_commands.api(number, port, self.environment()))
        return self._ready(process, address, lambda: answers(f"{address}/ready"))

    def _start_exporters(self) -> list[Callable[[], None]]:
        environment = self._options.environment
        found = exporters(server_of(self.redis_url), self.database_url, environment, self._supervisor.folder)
        self.exporter_urls = {one.job: one.url for one in found}
        return [self._ready(self._supervisor.start(one.command), one.url, partial(answers, one.url)) for one in found]

    def _start_prometheus(self) -> Callable[[], None]:
        jobs = {
            "streamgauge-api": [f"{url}/metrics" for url in self.api_urls],
            "streamgauge-worker": self.worker_metrics_urls,
            "loadtest": [f"http://{LOOPBACK}:{self._options.bench_metrics_port}/metrics"],
            "rollout": [f"http://{LOOPBACK}:{self._options.rollout_metrics_port}/metrics"],
            **{job: [url] for job, url in self.exporter_urls.items()},
        }
        process, self.prometheus_url = prometheus(self._supervisor, jobs, self.environment())
        return self._ready(process, self.prometheus_url, lambda: answers(f"{self.prometheus_url}/-/ready"))

    def _ready(self, process: Process, address: str, ready: Callable[[], bool]) -> Callable[[], None]:
        """Time the start from now; the call that is returned blocks until the process is ready."""
        started = time.monotonic()
        self._is_ready[process.name] = ready

        def wait() -> None:
            self._supervisor.wait_ready(process, ready, STEP_SECONDS)
            self._report(process.name, address, time.monotonic() - started)

        return wait

    @contextlib.contextmanager
    def _timed(self, name: str, address: Callable[[], str]) -> Iterator[None]:
        started = time.monotonic()
        yield
        self._report(name, address(), time.monotonic() - started)

    def _report(self, name: str, address: str, seconds: float | None = None) -> None:
        shown = address if seconds is not None else without_password(address)
        self.parts.append(Part(name, shown, seconds))
        self._announce(self.parts[-1])


@contextlib.contextmanager
def running_stack(options: StackOptions, announce: Callable[[Part], None] | None = None) -> Iterator[Stack]:
    """Own a whole system for the length of the block; it is down when the block is left, however it is left.

    Raises `PartFailedError` if a part ends by itself, also when that happened inside the block; `StackError` if it
    cannot begin. `announce` hears of each part as it becomes ready.
    """
    with Supervisor(options.folder) as supervisor:
        stack = Stack(options, supervisor, announce or (lambda _part: None))
        stack.start()
        yield stack
