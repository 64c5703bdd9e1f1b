"""Load generators beside the first: on this machine, or on others that join it."""

import os
import socket
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from loadtest.generator import ALONE, SCENARIO, Team, worker
from ops.ports import free_port
from ops.usage import UsageError

PORT = 5557
"""Locust's own."""
ANSWERS_WITHIN_S = 3.0

errors = Console(stderr=True, highlight=False, soft_wrap=True)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def team(processes: int, expect_workers: int, port: int) -> Team:
    """Who plays the load of a bench."""
    if expect_workers and processes > 1:
        raise UsageError("--processes is for load generators here, --expect-workers for those that join: give one.")
    if expect_workers:
        return Team(expect_workers=expect_workers, port=port)
    return Team(processes=processes, port=free_port()) if processes > 1 else ALONE


@app.command()
def join(
    master: Annotated[str, typer.Option(help="The host that runs `streamgauge bench --expect-workers`.")],
    master_port: Annotated[int, typer.Option(min=1, max=65535, help="Its --master-port.")] = PORT,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Workers on this machine; each counts.")] = 1,
) -> None:
    """Play a share of a bench that runs elsewhere, then end; Locust's output and exit code are ours."""
    say_if_nobody_listens(master, master_port)
    program, environment = worker(master, master_port, processes)
    os.chdir(SCENARIO.parent)  # no locust.conf of the caller's folder may change the run
    os.execve(program[0], program, environment)  # noqa: S606


def say_if_nobody_listens(master: str, port: int) -> None:
    """Say what is being waited for, and how it is started, unless a bench listens there: Locust says nothing of it."""
    try:
        socket.create_connection((master, port), ANSWERS_WITHIN_S).close()
    except OSError as error:
        fix = f"streamgauge bench --expect-workers N --master-port {port}"
        why = escape(f"no bench listens at {master}:{port} yet ({error.strerror or error})")
        errors.print(f"{why}; waiting for '{fix}' there.")
