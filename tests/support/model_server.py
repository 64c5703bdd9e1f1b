"""The scripted model as a process of its own, for tests that need nothing else."""

import contextlib
import http.client
import subprocess
import sys
from collections.abc import Iterator

from ops.ports import free_port
from tests.support.waiting import until


@contextlib.contextmanager
def running_model_server() -> Iterator[str]:
    """Give the base URL of a server that lives as long as the block."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "ops.model_server", "--port", str(port)])
    try:
        until(lambda: _answers(port), "the model server answers")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
