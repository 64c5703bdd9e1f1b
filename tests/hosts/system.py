"""The whole system with each part on a host of its own."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2

from ops import app_commands
from ops.app_commands import answers, consumes
from ops.postgres_server import start_postgres
from ops.processes import Command, Process
from ops.server_home import ServerHome
from ops.supervisor import Supervisor
from ops.valkey_server import start_valkey
from tests.hosts.network import Host, network

NAMES = ("viewers", "store", "database", "model", "api-a", "api-b", "worker-a", "worker-b")
PORT, METRICS_PORT = 8000, 9100
READY_S = 30.0
LEASE_S, GRACE_S, VISIBILITY_S, KEEP_ALIVE_S = 1.5, 6.0, 1.5, 1.0
QUICK = {
    "STREAMGAUGE_LEASE_S": f"{LEASE_S:g}",
    "STREAMGAUGE_LEASE_GRACE_S": f"{GRACE_S:g}",
    "STREAMGAUGE_WORKER_VISIBILITY_S": f"{VISIBILITY_S:g}",
    "STREAMGAUGE_KEEP_ALIVE_S": f"{KEEP_ALIVE_S:g}",
    "STREAMGAUGE_TIDY_EVERY_S": "1",
    "STREAMGAUGE_API_DRAIN_S": "0",
    "STREAMGAUGE_WORKER_DRAIN_S": "0",
    "STREAMGAUGE_WORKER_METRICS_HOST": "0.0.0.0",
    "STREAMGAUGE_ALLOWED_MODELS": "scripted*",
    "STREAMGAUGE_OPEN": "true",
    "OPENAI_API_KEY": "scripted",
    "OPENAI_MODEL": "scripted",
}


@dataclass(frozen=True)
class System:
    """What runs where. Tests reach it from the host `viewers`, on which they are."""

    hosts: dict[str, Host]
    database_url: str

    apis = ("api-a", "api-b")
    workers = ("worker-a", "worker-b")

    def host(self, name: str) -> Host:
        return self.hosts[name]

    def api(self, name: str) -> str:
        """The URL of the API on that host."""
        return f"http://{self.hosts[name].address}:{PORT}"

    async def metric(self, http: httpx2.AsyncClient, name: str, series: str) -> float:
        """A series of the process on that host, summed over its labels."""
        port = METRICS_PORT if name.startswith("worker") else PORT
        text = (await http.get(f"http://{self.hosts[name].address}:{port}/metrics")).text
        found = re.findall(rf"^streamgauge_{series}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)
        return sum(map(float, found))


@contextlib.contextmanager
def running_system(folder: Path) -> Iterator[System]:
    """Two APIs and two workers, with their servers, for the length of the block."""
    with network(*NAMES) as hosts, Supervisor(folder) as supervisor:
        home = ServerHome(supervisor, keep=False)
        with hosts["store"].inside():
            redis_url = start_valkey(supervisor, home, host=hosts["store"].address).url
        with hosts["database"].inside():
            database_url = start_postgres(supervisor, home, host=hosts["database"].address).url
        servers = {
            "REDIS_URL": redis_url,
            "BROKER_URL": redis_url,
            "DATABASE_URL": database_url,
            "OPENAI_BASE_URL": f"http://{hosts['model'].address}:{PORT}/v1",
        }
        environment = {**os.environ, **QUICK, **servers}
        with hosts["viewers"].inside():
            supervisor.run(app_commands.migrate(environment), READY_S)
        processes = {
            name: _start(supervisor, hosts[name], command) for name, command in _commands(hosts, environment).items()
        }
        with hosts["viewers"].inside():
            for name, process in processes.items():
                supervisor.wait_ready(process, partial(_is_ready, hosts[name], process), READY_S)
        yield System(hosts, database_url)


def _commands(hosts: dict[str, Host], environment: dict[str, str]) -> dict[str, Command]:
    """What runs on each host, by its name."""
    return {
        "model": app_commands.model_server(PORT, environment, hosts["model"].address),
        "worker-a": app_commands.worker(1, METRICS_PORT, environment),
        "worker-b": app_commands.worker(2, METRICS_PORT, environment),
        "api-a": app_commands.api(1, PORT, environment, hosts["api-a"].address),
        "api-b": app_commands.api(2, PORT, environment, hosts["api-b"].address),
    }


def _start(supervisor: Supervisor, host: Host, command: Command) -> Process:
    with host.inside():
        return supervisor.start(command)


def _is_ready(host: Host, process: Process) -> bool:
    if process.command.kind == "worker":
        return consumes(process)
    return answers(f"http://{host.address}:{PORT}/{'v1/models' if process.command.kind == 'model' else 'ready'}")
