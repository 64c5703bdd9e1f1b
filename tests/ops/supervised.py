"""Runs a supervisor in a process of its own, so that a test can kill it as a crash would."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ops.processes import identity
from ops.supervisor import Supervisor

ROOT = Path(__file__).parents[2]
SERVERS = """
import sys
from pathlib import Path
from ops.postgres_server import start_postgres
from ops.server_home import ServerHome
from ops.supervisor import Supervisor
from ops.valkey_server import start_valkey

with Supervisor(Path(sys.argv[1])) as supervisor:
    home = ServerHome(supervisor, keep=True)
    urls = start_valkey(supervisor, home).url, start_postgres(supervisor, home).url
    print(*urls, flush=True)
    supervisor.watch()
"""


@contextlib.contextmanager
def servers_elsewhere(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """Run both servers under a supervisor of their own; gives its process and their URLs."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVERS, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        try:
            yield supervisor, supervisor.stdout.readline().split()
        finally:
            supervisor.terminate()


def recorded(folder: Path) -> dict[str, tuple[int, str]]:
    """Give pid and identity of each process in the folder's ledger, by name."""
    entries = json.loads((folder / "processes.json").read_text())
    return {entry["name"]: (entry["pid"], entry["identity"]) for entry in entries}


def is_alive(entry: tuple[int, str]) -> bool:
    """Tell whether this very process still runs."""
    pid, expected = entry
    return identity(pid) == expected


def record(supervisor: Supervisor, pid: int, known_as: str) -> None:
    """Write a ledger as a supervisor that was killed would have left it."""
    entry = {"name": "left over", "pid": pid, "identity": known_as, "signal": 15}
    (supervisor.folder / "processes.json").write_text(json.dumps([entry]))
