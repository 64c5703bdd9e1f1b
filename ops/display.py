"""What `streamgauge` prints about the stack."""

import shlex
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status

from ops.exporters import HOW_TO_GET, JOBS
from ops.stack import Part, Stack

OURS = {
    "REDIS_URL": "valkey",
    "BROKER_URL": "broker",
    "DATABASE_URL": "postgres",
    "OPENAI_BASE_URL": "model",
    "OPENAI_API_KEY": "model",
    "OPENAI_MODEL": "model",
}
"""Which part of ours a variable is about. A person's own is in that person's environment, and stays off the screen."""
GUARDED = (
    ("STREAMGAUGE_API_KEYS", "STREAMGAUGE_API_KEY", "${STREAMGAUGE_API_KEY:?one of your keys}"),
    (
        "STREAMGAUGE_METRICS_TOKEN",
        "STREAMGAUGE_METRICS_TOKEN",
        "${STREAMGAUGE_METRICS_TOKEN:?as the processes have it}",
    ),
)
"""Where the first is set, the second lets the doctor in; a shell asks for it, since no secret goes to a screen."""
KEY = """\
  KEY="Authorization: Bearer ${STREAMGAUGE_API_KEY:?one of your keys}"
"""
TRY = """\
[bold]Try it[/] (paste all of it):
  API={api}
{key}  ID=$(curl -s -X POST $API/conversations{auth} -H 'Content-Type: application/json' -d '{{}}' \\
    | sed 's/.*"id":"\\([^"]*\\)".*/\\1/')
  TASK=$(curl -s -X POST $API/conversations/$ID/messages{auth} -H 'Content-Type: application/json' \\
    -d '{{"content": "Tell me about the tides"}}' | sed 's/.*"task_id":"\\([^"]*\\)".*/\\1/')
  curl -N{auth} $API/stream/$TASK
"""


class Progress:
    """One line a part as it becomes ready, and a spinner on a terminal meanwhile."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = Status("starting", console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> None:
        """Take the spinner away."""
        if self._status:
            self._status.stop()

    def part(self, part: Part) -> None:
        """Say that this part is ready."""
        took = "yours" if part.seconds is None else f"{part.seconds:5.2f} s"
        self._console.print(f"  [green]✓[/] {part.name:<18}{took}")


def flip_command(stack: Stack) -> str:
    """Give what a shell needs to send new messages to the other backend; a person's own address is there already."""
    return _command(stack, ("DATABASE_URL",), "flag", "set", "polling")


def doctor_command(stack: Stack) -> str:
    """Give what a shell needs to examine this whole system."""
    apis = (f"--api={url}" for url in stack.api_urls)
    workers = (f"--worker={url}" for url in stack.worker_metrics_urls)
    secrets = [f"{name}={value} " for needs, name, value in GUARDED if needs in stack.environment()]
    return "".join(secrets) + _command(stack, tuple(OURS), "doctor", *apis, *workers)


def _command(stack: Stack, variables: tuple[str, ...], *words: str) -> str:
    """Set those variables that the person's own environment has not already."""
    beside = Path(sys.executable).with_name("streamgauge")
    program = [str(beside)] if beside.exists() else [sys.executable, "-m", "ops.cli"]
    environment = stack.environment()
    ours = [f"{name}={shlex.quote(environment[name])}" for name in variables if OURS[name] in stack.processes]
    return " ".join([*ours, *map(shlex.quote, [*program, *words])])


def show_stack(console: Console, stack: Stack, token: str = "") -> None:
    """Print what listens where and how to talk to it, and the page's address with the token for its operator."""
    # Addresses are copied from here, so they stay on one line, however narrow the terminal is.
    for part in stack.parts:
        if part.address:
            process = stack.processes.get(part.name)
            whose = f"process {process.pid}" if process else "yours"
            console.print(f"  {part.name:<18}{whose:<16}{part.address}", soft_wrap=True, markup=False)
    if stack.scripted_model:
        console.print(
            "Answers are [bold]scripted[/] text; set OPENAI_BASE_URL and OPENAI_API_KEY for a real model.",
            soft_wrap=True,
        )
    # What is behind the # no browser sends: the token is for the page alone.
    console.print(f"\nLook:  {stack.api_url}/{token and '#token='}{token}", soft_wrap=True, markup=False)
    console.print(f"Pages: {stack.api_url}/docs {stack.api_url}/ready {stack.api_url}/metrics", soft_wrap=True)
    if stack.prometheus_url:
        console.print(f"Query: {stack.prometheus_url}/graph {stack.prometheus_url}/alerts", soft_wrap=True)
        if len(stack.exporter_urls) < len(JOBS):
            console.print(f"       It would see the servers too after: {HOW_TO_GET}", soft_wrap=True, markup=False)
    console.print(f"Logs:  {stack.logs}", soft_wrap=True, markup=False)
    console.print(f"Flip:  {flip_command(stack)}", soft_wrap=True, markup=False)
    console.print(f"Check: {doctor_command(stack)}\n", soft_wrap=True, markup=False)
    asks = "STREAMGAUGE_API_KEYS" in stack.environment()
    console.print(
        TRY.format(api=stack.api_url, key=KEY if asks else "", auth=' -H "$KEY"' if asks else ""), soft_wrap=True
    )
    console.print("Ctrl-C stops everything.")
