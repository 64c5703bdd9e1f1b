"""A real Valkey behind Sentinel for a test: a master, a replica and three sentinels from the wheel, all in a hurry."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ops.ports import free_port
from tests.support.valkey import RunningValkey, answers, running_valkey, server_binary
from tests.support.waiting import until

NAME, QUORUM, COUNT = "mymaster", 2, 3
REPLICATION = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "3")
DOWN_AFTER_MS = 500
HURRY = {"info-period": 500, "ask-period": 100, "publish-period": 700}
"""What sentinels otherwise do every ten, one and two seconds; ms.

A sentinel turns what it takes for a stray master into a replica after four publish periods: by then it must have heard
of a failover. Pings keep their second: a replica that has not answered for five of them is unfit to take over.
"""


@dataclass
class RunningSentinels:
    """The servers, as they began, and the sentinels' ports."""

    master: RunningValkey
    replica: RunningValkey
    ports: list[int]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/{NAME}/0"

    @property
    def url_with_one_away(self) -> str:
        """The first of four does not answer."""
        return self.url.replace("://", f"://127.0.0.1:{free_port()},")

    def named(self) -> set[int]:
        """The ports that the sentinels give as the master's; one if they agree."""
        return {int(state(port)["port"]) for port in self.ports}

    def now(self) -> tuple[RunningValkey, RunningValkey]:
        """Master and replica, as all sentinels agree."""
        (port,) = self.named()
        servers = self.master, self.replica
        return servers if port == self.master.port else servers[::-1]

    def wait_for(self, master: RunningValkey) -> None:
        """Until all name this one, and it takes it on."""
        until(lambda: self.named() == {master.port}, f"the sentinels name the server at {master.port} the master")
        until(lambda: role(master) == "master", f"the server at {master.port} is the master")


def state(port: int) -> dict[str, Any]:
    """What a sentinel knows of the master."""
    with redis.Redis(port=port) as sentinel:
        masters: dict[str, dict[str, Any]] = sentinel.sentinel_masters()
        return masters[NAME]


def role(server: RunningValkey) -> str:
    with server.client() as client:
        return str(client.execute_command("ROLE")[0])


def is_replicating(replica: RunningValkey) -> bool:
    with replica.client() as client:
        return dict(client.info("replication")).get("master_link_status") == "up"


@contextlib.contextmanager
def running_sentinels() -> Iterator[RunningSentinels]:
    """All of it for the length of the block; it leaves neither process nor file."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(running_valkey(options=REPLICATION))
        following = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(running_valkey(options=(*REPLICATION, *following)))
        until(lambda: is_replicating(replica), "the replica follows")
        ports = [stack.enter_context(running_sentinel(master.port)) for _ in range(COUNT)]
        until(lambda: all(map(knows_all, ports)), "the sentinels know each other and the replica")
        yield RunningSentinels(master, replica, ports)


def knows_all(port: int) -> bool:
    known = state(port)
    return (known["num-other-sentinels"], known["num-slaves"]) == (COUNT - 1, 1)


@contextlib.contextmanager
def running_sentinel(
    watched: int, more: str = "", password: str | None = None, binary: Path | None = None
) -> Iterator[int]:
    """One sentinel that watches the master at a port; gives its own port. `more` are lines of configuration."""
    folder, port = Path(tempfile.mkdtemp(prefix="sentinel-")), free_port()
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder / 'log'}\n"
        f"sentinel monitor {NAME} 127.0.0.1 {watched} {QUORUM}\n"
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 3000\n{more}"
    )
    process = subprocess.Popen([str(binary or server_binary()), str(file), "--sentinel"])
    try:
        until(lambda: answers(port), f"the sentinel answers on port {port}")
        with redis.Redis(port=port, password=password) as sentinel:
            sentinel.execute_command("SENTINEL", "DEBUG", *(part for pair in HURRY.items() for part in pair))
        yield port
    finally:
        process.kill()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)
