"""Load generators beside the first: on this machine, or on others that join it."""

import os

from loadtest.generator import ALONE, SCENARIO, Team, worker
from ops.ports import free_port
from ops.usage import UsageError


def team(processes: int, expect_workers: int, port: int) -> Team:
    """Who plays the load of a bench."""
    if expect_workers and processes > 1:
        raise UsageError("--processes is for load generators here, --expect-workers for those that join: give one.")
    if expect_workers:
        return Team(expect_workers=expect_workers, port=port)
    return Team(processes=processes, port=free_port()) if processes > 1 else ALONE


def join(master: str, port: int, processes: int) -> None:
    """Become Locust's worker: its output and exit code are ours."""
    program, environment = worker(master, port, processes)
    os.chdir(SCENARIO.parent)  # no locust.conf of the caller's folder may change the run
    os.execve(program[0], program, environment)  # noqa: S606
