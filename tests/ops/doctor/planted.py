"""What plants a fault on a whole system."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
NOWHERE = "redis://127.0.0.1:1/0"


def started(*command: str, **environment: str) -> "subprocess.Popen[bytes]":
    """A process of a fault's own."""
    argv = [sys.executable, "-m", *command]
    return subprocess.Popen(
        argv, cwd=ROOT, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
