"""`make clean` takes along what servers kept outside of the checkout, and nobody else's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.app_commands import ROOT
from ops.clean import OWNER
from ops.server_home import ServerHome
from ops.supervisor import Supervisor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers live elsewhere")


def home_of(folder: Path) -> Path:
    """Where the servers of a stack in this folder keep their data; the stack has ended."""
    with Supervisor(folder) as supervisor:
        return ServerHome(supervisor, keep=True).path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder in which `make clean` works."""
    (tmp_path / "checkout").mkdir(mode=0o700)
    shutil.copy(ROOT / "Makefile", tmp_path / "checkout")
    (tmp_path / "checkout" / "ops").symlink_to(ROOT / "ops")
    return tmp_path / "checkout"


def clean(checkout: Path) -> str:
    done = subprocess.run(
        ["make", "clean", f"PYTHON={sys.executable}"], cwd=checkout, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_home_goes_with_its_checkouts_data(checkout: Path) -> None:
    """It holds the databases of `.streamgauge`, which are removed."""
    home = home_of(checkout / ".streamgauge")
    assert checkout not in home.parents
    assert f"removing {home}" in clean(checkout)
    assert not home.exists()


def test_a_home_that_is_remembered_stays(checkout: Path, tmp_path: Path) -> None:
    """Another checkout's data is its own."""
    home = home_of(tmp_path / "other" / ".streamgauge")
    clean(checkout)
    assert home.exists()


def test_a_home_in_which_a_server_runs_stays(checkout: Path) -> None:
    """Even if somebody has removed the folder under it."""
    home = home_of(checkout / ".streamgauge")
    with subprocess.Popen(["sleep", "60"], cwd=home) as server:
        clean(checkout)
        assert home.exists()
        server.kill()
    clean(checkout)
    assert not home.exists()


def test_a_folder_that_does_not_say_whose_it_is_stays(checkout: Path) -> None:
    """Its name alone makes it nobody's to remove."""
    home = home_of(checkout / ".streamgauge")
    (home / OWNER).rename(home / "other")
    try:
        clean(checkout)
        assert home.exists()
    finally:
        shutil.rmtree(home)
