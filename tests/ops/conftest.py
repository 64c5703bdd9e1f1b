"""What every test of this folder leaves behind: nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_server_home_is_left(tmp_path: Path) -> Iterator[None]:
    """Remove the data that servers kept outside the test's folder for their next start."""
    yield
    for memory in tmp_path.rglob("servers.path"):
        shutil.rmtree(memory.read_text())
