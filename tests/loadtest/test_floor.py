"""The lean load and the floor that stands beside its figures."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

from ops.app_commands import ROOT
from ops.ports import free_port
from tests.support.valkey import running_valkey
from tests.support.waiting import until


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    try:
        with urlopen(url, data=b"{}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_the_lean_load_measures_the_floor() -> None:
    """Every chunk of the window is counted once, in order, with its latency and each process's CPU."""
    port = free_port()
    with (
        running_valkey() as valkey,
        started("loadtest.bench.floor", "publish", valkey.url),
        started("loadtest.bench.floor", "serve", valkey.url, str(port)) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/conversations"), "the floor answers")
        options = ["--streams", "5", "--stream-seconds", "1", "--ramp", "0.5", "--warmup", "0.5", "--seconds", "1"]
        command = ["loadtest.bench.client", url, *options, "--check", "0", "--pid", f"serve={server.pid}"]
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, check=True, timeout=60)
    found = json.loads(done.stdout)
    assert (found["broken"], found["first_broken"]) == (0, [])
    assert found["chunks"] == found["delivery_latency_s"]["count"] > 10
    assert 0 < found["delivery_latency_s"]["p50"] <= found["delivery_latency_s"]["max"] < 5
    assert set(found["cpu_s"]) == {"client", "serve"}
