"""Starts the small server that speaks the wire contract, for the time of a block."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def running_target(
    certificate: Path | None = None, host: str = "127.0.0.1", skew: float = 0.0, **behind: float
) -> Iterator[str]:
    """Its URL; `behind` dates each backend's chunks that many seconds into the past, `skew` puts its whole clock ahead.

    With a certificate: over TLS.
    """
    with mortal_target(certificate, host, skew, **behind) as (url, _):
        yield url


@contextlib.contextmanager
def mortal_target(
    certificate: Path | None = None, host: str = "127.0.0.1", skew: float = 0.0, **behind: float
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The same with its process, for a test that takes it away."""
    options = [f"--host={host}", f"--skew={skew}"]
    options += [f"--behind={name}={seconds}" for name, seconds in behind.items()]
    if certificate is not None:
        options.append(f"--certificate={certificate}")
    command = [sys.executable, "-m", "tests.support.sse_target", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http{'s' if certificate else ''}://{host}:{int(process.stdout.readline())}", process
        finally:
            process.terminate()


def own_address() -> str:
    """One of this machine's that is not the loopback's: to a client, another host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: the kernel only says from where it would be
        return str(probe.getsockname()[0])
