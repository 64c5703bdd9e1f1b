"""The `streamgauge` command."""

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated, Literal
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
LOAD_PORT = 5557  # Locust's own
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
        errors.print(f"[bold red]streamgauge:[/] {escape(str(error))}", soft_wrap=True)
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
    from ops.control import listening_control
    from ops.display import Progress, show_stack
    from ops.stack import StackOptions, running_stack

    token = os.environ.get("STREAMGAUGE_OPERATOR_TOKEN") or secrets.token_urlsafe(18)
    is_up = False
    try:
        with signals_interrupt(), listening_control(token) as control, Progress(console) as progress:
            options = StackOptions(
                folder, workers, apis, port, traces=True, observe=observe, control_url=control.url, operator_token=token
            )
            with running_stack(options, progress.part) as stack:
                progress.finish()
                show_stack(console, stack, token)
                is_up = True
                control.serve(stack)
                stack.watch(control.obey)
    except KeyboardInterrupt:
        console.print("Everything is stopped.")
        raise typer.Exit(0 if is_up else INTERRUPTED) from None


@app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="End within a minute; each backend more than two adds its share.")
    ] = False,
    num_conversations: Annotated[int | None, typer.Option(min=1, help="Conversations per backend.")] = None,
    backends: Annotated[
        str, typer.Option(help="With commas between them, or all; others are held against polling, or the first.")
    ] = "polling,pubsub",
    chunk_rate: Annotated[float, typer.Option(help="Chunks per second of one stream.")] = 20.0,
    out: Annotated[Path, typer.Option(help="Where each run gets its folder.")] = Path("results"),
    scenario: Annotated[
        str,
        typer.Option(
            help="When streams start: steady, ramp, step, spike, open (poisson), constant; or how they are watched: "
            "reconnect, late-join, multi-viewer, slow-client, cancel; or soak; or rollback, which flips the flag."
        ),
    ] = "steady",
    duration: Annotated[str | None, typer.Option(help="Of a soak, such as 10m, or of a rollback.")] = None,
    flip_every: Annotated[
        float | None, typer.Option(min=1, help="Seconds from one flip of a rollback to the next (5, quick 3).")
    ] = None,
    kill: Annotated[
        bool, typer.Option("--kill/--no-kill", help="Kill the chunk store at one flip of a rollback.")
    ] = True,
    trace: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Replay arrivals and lengths of this CSV (Azure LLM trace)."),
    ] = None,
    time_scale: Annotated[float, typer.Option(help="Stretch the trace's time by this factor.")] = 1.0,
    target: Annotated[str | None, typer.Option(help="URL of a running system, measured instead of our own.")] = None,
    protocol: Annotated[
        Literal["streamgauge", "openai"],
        typer.Option(help="openai asks the model itself: what is left when there is no streamgauge."),
    ] = "streamgauge",
    seed: Annotated[int | None, typer.Option(help="Repeat the plan of an earlier run.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Load generators here, when one core is not enough for the load.")
    ] = 1,
    expect_workers: Annotated[
        int, typer.Option(min=0, help="Load generators elsewhere: each `streamgauge load-worker` that joins is one.")
    ] = 0,
    master_port: Annotated[int, typer.Option(min=1, max=65535, help="Where they join.")] = LOAD_PORT,
    progress: Annotated[
        Literal["auto", "json", "none"],
        typer.Option(help="json: a line of JSON for each step, and everything else on the standard error."),
    ] = "auto",
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve what the load sees as Prometheus metrics, for the page Load test."),
    ] = None,
    workers: Workers = 1,
    apis: Apis = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what the system under test consists of.")] = False,
) -> None:
    """Measure the backends side by side on a system of our own, or on --target, and write results/<time>/.

    With --target the servers' own counters are read if DATABASE_URL and REDIS_URL name its servers.
    """
    from loadtest.options import BenchOptions
    from ops.load_worker import team
    from ops.measure import measure, measure_own_stack, with_flips
    from ops.options import chosen_backends
    from ops.stack import StackOptions

    options = BenchOptions(
        quick=quick,
        num_conversations=num_conversations,
        backends=chosen_backends(backends),
        chunk_rate=chunk_rate,
        out=out,
        scenario=scenario,
        duration=duration,
        protocol=protocol,
        trace=trace,
        time_scale=time_scale,
        seed=seed,
        metrics_port=metrics_port,
        team=team(processes, expect_workers, master_port),
        progress=progress,
    )
    shown = errors if progress == "json" else console
    is_rollback = scenario == "rollback"
    if is_rollback:
        options = with_flips(options, target, os.environ, every_s=flip_every, kill=kill)
    try:
        with signals_interrupt():
            if target:
                measure(options, target, os.environ, shown)
            else:
                # Beside the stack of `up`, so that one can run while the other does.
                stack = StackOptions(
                    Path(".streamgauge/bench"), workers, apis, port=0, keep_data=False, own_broker=is_rollback
                )
                measure_own_stack(options, stack, shown, verbose=verbose)
    except KeyboardInterrupt:
        shown.print("Interrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED) from None


@app.command(name="load-worker")
def load_worker(
    master: Annotated[str, typer.Option(help="The host that runs `streamgauge bench --expect-workers`.")],
    master_port: Annotated[int, typer.Option(min=1, max=65535, help="Its --master-port.")] = LOAD_PORT,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Workers on this machine; each counts.")] = 1,
) -> None:
    """Lend this machine to a bench that runs elsewhere: play a share of its load, then end."""
    from ops.load_worker import join

    join(master, master_port, processes)


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


if __name__ == "__main__":
    main()
