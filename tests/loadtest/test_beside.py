"""Two benches at once disturb each other, and each of them is told so."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from loadtest.beside import other_loads
from loadtest.generator import SCENARIO
from tests.support.waiting import until

PLAYER = [sys.executable, "-c", "import signal; signal.pause()", f"{SCENARIO},more.py", "--plan"]
"""Looks like a load generator and does nothing."""


@pytest.fixture
def stranger() -> Iterator[int]:
    """The id of a player that somebody else has started."""
    orphaned = ["sh", "-c", '"$@" >/dev/null & echo $!', "sh", *PLAYER]
    pid = int(subprocess.run(orphaned, stdout=subprocess.PIPE, check=True).stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_the_load_of_somebody_else_is_seen_and_ones_own_is_not(stranger: int) -> None:
    """By what is started as a player with a plan, wherever its system is."""
    until(lambda: stranger in other_loads(), "the other load is seen")
    with subprocess.Popen(PLAYER) as own:
        try:
            until(lambda: psutil.Process(own.pid).cmdline() == PLAYER, "it is a player")
            assert own.pid not in other_loads()
        finally:
            own.kill()
