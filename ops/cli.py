"""The `streamgauge` command."""

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.markup import escape

from ops.signals import signals_interrupt

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run and measure LLM answer streaming over several backends behind one flag.",
)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

# For commands whose own parser reads the arguments, so that nothing heavy is imported before they are asked for.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
FAILED, USAGE, INTERRUPTED = 1, 2, 130
Folder = Annotated[Path, typer.Option(help="Where logs and data of the embedded servers live.")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="Processes that generate answers.")]
Apis = Annotated[int, typer.Option(min=1, max=64, help="Processes that serve HTTP, each on a port of its own.")]


def main() -> None:
    """Run the command of sys.argv; an error that says what to do is printed without a traceback."""
    from ops.processes import StackError
    from ops.usage import USAGE, UsageError

    try:
        app()
    except StackError as error:
        text = "\n".join([str(error), *getattr(error, "__notes__", ())])
        errors.print(f"[bold red]streamgauge:[/] {escape(text)}", soft_wrap=True)
        sys.exit(USAGE if isinstance(error, UsageError) else FAILED)


@app.command()
def up(
    workers: Workers = 1,
    apis: Apis = 1,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the first API; 8000 if free, and 0 is any free one.")
    ] = None,
    folder: Folder = Path(".streamgauge"),
    observe: Annotated[bool, typer.Option("--observe", help="Start Prometheus too, with our alerts.")] = False,
) -> None:
    """Start the whole system here: Valkey, PostgreSQL, a scripted model, workers and APIs. Ctrl-C stops it.

    REDIS_URL, BROKER_URL, DATABASE_URL and OPENAI_BASE_URL name servers of your own to use instead.
    """
    from app.settings import load_settings
    from ops.control import listening_control
    from ops.display import Progress, show_stack
    from ops.processes import PartFailedError
    from ops.stack import StackOptions, running_stack
    from ops.usage import UsageError

    if load_settings().store_cluster and not os.environ.get("REDIS_URL"):  # before anything has started
        raise UsageError(
            "STREAMGAUGE_STORE_CLUSTER is true, and `up` starts no cluster: name a node of yours in REDIS_URL, or "
            "leave that out."
        )
    token = os.environ.get("STREAMGAUGE_OPERATOR_TOKEN") or secrets.token_urlsafe(18)
    is_up = False
    try:
        with signals_interrupt(), listening_control(token) as control, Progress(console) as progress:
            options = StackOptions(
                folder, workers, apis, port, traces=True, observe=observe,
                control_url=control.url, operator_token=token, asks_for_keys=True,
            )  # fmt: skip
            with running_stack(options, progress.part) as stack:
                progress.finish()
                show_stack(console, stack, token)
                is_up = True
                control.serve(stack)
                stack.watch(control.obey)
    except KeyboardInterrupt:
        console.print("Everything is stopped.")
        raise typer.Exit(0 if is_up else INTERRUPTED) from None
    except PartFailedError as error:
        error.add_note(
            f"{error.what}, so everything else was stopped too. Its whole log is {error.log}; `streamgauge up` begins "
            "again with the data kept."
        )
        raise


@app.command(context_settings=PASSED_ON)
def bench(context: typer.Context) -> None:
    """Measure the backends side by side, here or on a --target, and write results/<time>/; see `bench --help`."""
    from ops.bench_command import app as commands

    commands(args=context.args, prog_name="streamgauge bench")


@app.command(name="load-worker", context_settings=PASSED_ON)
def load_worker(context: typer.Context) -> None:
    """Lend this machine to a bench that runs elsewhere: play a share of its load; `load-worker --help` lists how."""
    from ops.load_worker import app as commands

    commands(args=context.args, prog_name="streamgauge load-worker")


@app.command(context_settings=PASSED_ON)
def compare(context: typer.Context) -> None:
    """Set two saved runs against each other: ratios with intervals. `streamgauge compare --help` lists how."""
    _passed_on("compare", context)


@app.command(context_settings=PASSED_ON)
def gate(context: typer.Context) -> None:
    """Judge a run by a baseline, with exit codes and JUnit XML for CI; `streamgauge gate --help` lists how."""
    _passed_on("gate", context)


@app.command(context_settings=PASSED_ON)
def report(context: typer.Context) -> None:
    """Write a saved run's report.html anew: `streamgauge report FOLDER_OR_JSON`."""
    _passed_on("report", context)


def _passed_on(name: str, context: typer.Context) -> None:
    from ops.measure_commands import app as commands

    commands(args=[name, *context.args], prog_name="streamgauge")


@app.command(context_settings=PASSED_ON)
def perf(context: typer.Context) -> None:
    """Measure what a chunk and an open stream cost, beside floor and reference; `perf --help` lists how."""
    from ops.perf_command import app as commands

    commands(args=context.args, prog_name="streamgauge perf")


@app.command(context_settings=PASSED_ON)
def capacity(context: typer.Context) -> None:
    """Find the most concurrent streams that keep an objective, per backend; `capacity --help` lists how."""
    from ops.capacity_command import app as commands

    commands(args=context.args, prog_name="streamgauge capacity")


@app.command(context_settings=PASSED_ON)
def claims(context: typer.Context) -> None:
    """Hold a migration guide's claims of polling and pub/sub against this machine; `claims --help` lists how."""
    from ops.claims_command import app as commands

    commands(args=context.args, prog_name="streamgauge claims")


@app.command(context_settings=PASSED_ON)
def plan(context: typer.Context) -> None:
    """Say how many processes, shards and load generators a load takes, from measured costs; see `plan --help`."""
    from ops.plan_command import app as commands

    commands(args=context.args, prog_name="streamgauge plan")


@app.command(context_settings=PASSED_ON)
def chaos(context: typer.Context) -> None:
    """Strike a system of its own with faults while streams run, and count what is lost; `chaos --help` lists how."""
    from ops.chaos.command import app as commands

    commands(args=context.args, prog_name="streamgauge chaos")


@app.command()
def migrate() -> None:
    """Bring the schema of the database that DATABASE_URL names to the newest revision."""
    from ops.app_commands import migrate as command
    from ops.processes import StackError

    if not os.environ.get("DATABASE_URL"):
        raise StackError("Set DATABASE_URL=postgresql://user:password@host:port/database; `up` migrates its own one.")
    program = command(os.environ)
    os.chdir(program.cwd)
    os.execv(program.argv[0], program.argv)  # noqa: S606 - it takes our place: its output and exit code are ours


@app.command(context_settings=PASSED_ON)
def doctor(context: typer.Context) -> None:
    """Examine a system and the messages that wait in it; `streamgauge doctor --repair` ends those that wait in vain."""
    from ops.doctor.command import commands

    commands(args=context.args, prog_name="streamgauge doctor")


@app.command()
def trace(
    task_id: Annotated[UUID, typer.Argument(help="Of the message, as its POST answered it.")],
    folder: Folder = Path(".streamgauge"),
) -> None:
    """Show where the time of one message went, on the system that `streamgauge up` runs or last ran here."""
    from ops.trace_view import show_trace

    show_trace(console, folder / "traces", task_id)


@app.command(context_settings=PASSED_ON)
def flag(context: typer.Context) -> None:
    """Show or change which backend new messages get; `streamgauge flag --help` lists how. It needs DATABASE_URL."""
    from ops.flag_commands import commands

    commands(args=context.args, prog_name="streamgauge flag")


@app.command(context_settings=PASSED_ON)
def rollback(context: typer.Context) -> None:
    """Send new messages to the safe backend, now; `streamgauge rollback --help` lists how. It needs DATABASE_URL."""
    from ops.flag_commands import rollback_command

    rollback_command(args=context.args, prog_name="streamgauge rollback")


@app.command(context_settings=PASSED_ON)
def rollout(context: typer.Context) -> None:
    """Move new messages to a backend step by step, and back by itself if it does worse; `rollout --help` lists how."""
    from ops.rollout.command import app as commands

    commands(args=context.args, prog_name="streamgauge rollout")


@app.command(context_settings=PASSED_ON)
def model(context: typer.Context) -> None:
    """Serve the scripted OpenAI-compatible model; `streamgauge model --help` lists its options."""
    os.execv(sys.executable, [sys.executable, "-m", "ops.model_server", *context.args])  # noqa: S606


@app.command()
def key(name: Annotated[str, typer.Argument(help="Of the owner: letters, digits, and . @ + - _")]) -> None:
    """Make an API key for an owner: the key, which nobody can read again, and its entry for STREAMGAUGE_API_KEYS."""
    from ops.keys import make_key

    print(*make_key(name), sep="\n")  # noqa: T201 - to be piped


if __name__ == "__main__":
    main()
