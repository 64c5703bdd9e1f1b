"""`streamgauge bench`: the backends side by side."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from loadtest.options import BenchOptions
from ops.load_worker import PORT, team
from ops.measure import measure, measure_own_stack, with_flips
from ops.options import chosen_backends
from ops.signals import signals_interrupt
from ops.stack import StackOptions
from ops.usage import UsageError

INTERRUPTED = 130
BACKENDS = "polling,pubsub"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@app.command()
def bench(
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="End within about a minute if the machine is idle; each backend more than two adds its share.",
        ),
    ] = False,
    num_conversations: Annotated[
        int | None, typer.Option(min=1, help="Conversations per backend, at least two.")
    ] = None,
    quartets: Annotated[
        int | None, typer.Option(min=1, help="Turns of every backend: more make narrower intervals (5, quick 3).")
    ] = None,
    backends: Annotated[
        str | None,
        typer.Option(
            help="With commas between them, or all; others are held against polling, or the first.  "
            "[default: polling,pubsub]"
        ),
    ] = None,
    chunk_rate: Annotated[float, typer.Option(help="Chunks per second of one stream, 0.01 to 1000.")] = 20.0,
    stream_seconds: Annotated[
        float | None, typer.Option(min=0.1, max=3600, help="How long an answer takes (5, quick 1.2).")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where each run gets its folder.")] = Path("results"),
    scenario: Annotated[
        str,
        typer.Option(
            help="When streams start: steady, ramp, step, spike, open (poisson), constant; or how they are watched: "
            "reconnect, late-join, multi-viewer, slow-client, cancel; or soak; trace (see --trace); or rollback, which "
            "flips the flag."
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
    master_port: Annotated[int, typer.Option(min=1, max=65535, help="Where they join.")] = PORT,
    progress: Annotated[
        Literal["auto", "json", "none"],
        typer.Option(help="json: a line for each step, and everything else on the standard error; none: no progress."),
    ] = "auto",
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Serve what the load sees as Prometheus metrics, for the page Load test."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that generate answers.")] = 1,
    apis: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve HTTP, each on a port of its own.")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what the system under test consists of.")] = False,
) -> None:
    """Measure the backends side by side on a system of our own, or on --target, and write results/<time>/.

    Exit 0: a result, trusted or not; 1: streams broke or a part failed; 2: usage; 130: interrupted. With --target the
    servers' own counters are read if DATABASE_URL and REDIS_URL name its servers.
    """
    if protocol == "openai" and backends is not None:
        raise UsageError("A model that is asked directly has no backend: leave out --backends or --protocol openai.")
    options = BenchOptions(
        quick=quick,
        num_conversations=num_conversations,
        quartets_at_most=quartets,
        backends=chosen_backends(BACKENDS if backends is None else backends),
        chunk_rate=chunk_rate,
        stream_s=stream_seconds,
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
    elif flip_every is not None or not kill:
        raise UsageError(
            "Only a rollback flips the flag: add --scenario rollback, or leave out --flip-every and --no-kill."
        )
    try:
        with signals_interrupt():
            if target:
                measure(options, target, os.environ, shown)
            else:
                # Beside the stack of `up`, so that one can run while the other does.
                stack = StackOptions(
                    Path(".streamgauge/bench"), workers, apis, port=0, keep_data=False, own_broker=is_rollback,
                    model_only=protocol == "openai",
                )  # fmt: skip
                measure_own_stack(options, stack, shown, verbose=verbose)
    except KeyboardInterrupt:
        shown.print("Interrupted; everything is stopped.")
        raise typer.Exit(INTERRUPTED) from None
