"""Starts the small server that speaks the wire contract, for the time of a block."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@contextlib.contextmanager
def running_target(certificate: Path | None = None, **behind: float) -> Iterator[str]:
    """Its URL; `behind` dates each backend's chunks that many seconds into the past. With a certificate: over TLS."""
    options = [f"--behind={name}={seconds}" for name, seconds in behind.items()]
    if certificate is not None:
        options.append(f"--certificate={certificate}")
    command = [sys.executable, "-m", "tests.support.sse_target", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http{'s' if certificate else ''}://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
