"""Redis 7, which no wheel carries: Debian's `redis-server`, where this machine has it."""

import os
import shutil
from pathlib import Path

import pytest

MISSING = "Redis 7 is not here, so no backend was tried on it: `make debian` as root, or `apt-get install redis-server`"


def redis_binary() -> Path:
    """The server; without one the test is skipped with its reason, and fails where CI=true."""
    found = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if found:
        return Path(found)
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(MISSING)
    pytest.skip(MISSING)
