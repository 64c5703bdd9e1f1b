"""The main job: bring a system up, measure it, and say which part failed if one did."""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from app.settings import load_settings
from app.streaming.backends import withheld
from loadtest.catalogue import ROLLBACK
from loadtest.counters import CountersError
from loadtest.generator import GeneratorError
from loadtest.options import BenchOptions
from loadtest.run import BrokenRunError, ContinuityError, check, run_bench
from loadtest.target import BenchError, NoTargetError
from loadtest.watched import System
from ops import flipping
from ops.display import Progress, show_stack
from ops.postgres_server import named_database
from ops.processes import PartFailedError, StackError
from ops.sentinel import server_of
from ops.stack import Stack, StackOptions, running_stack
from ops.usage import UsageError

WATCH_SECONDS = 0.5
FULL = (errno.ENOSPC, errno.EDQUOT)


def measure_own_stack(options: BenchOptions, stack_options: StackOptions, console: Console, *, verbose: bool) -> Path:
    """Measure a stack that lives for this run only. Raises `StackError` when it, or a part of it, fails."""
    _check(options)
    known = {
        "own_system": True,
        "polling_interval_s": load_settings().polling_interval_s,
        "workers": stack_options.workers,
        "apis": stack_options.apis,
    }
    console.print("Starting the system under test:")
    with Progress(console) as progress, running_stack(stack_options, progress.part) as stack:
        progress.finish()
        if verbose and not stack_options.model_only:
            show_stack(console, stack)
        if not stack.scripted_model:
            options = replace(options, model=None)
        with errors_say_what_to_do(), crash_interrupts(stack):
            target = stack.openai_base_url if options.protocol == "openai" else stack.api_url
            database_url, redis_url, system = stack.database_url, server_of(stack.redis_url), seen_of(stack)
            try:
                if options.scenario != ROLLBACK:
                    return run_bench(options, target, database_url, redis_url, console, known, system)
                with flipping.controls_of(stack, load_settings().default_backend) as controls:
                    return run_bench(options, target, database_url, redis_url, console, known, controls=controls)
            except KeyboardInterrupt:
                stack.give_up()  # what the workers still answer is heard by nobody
                raise


def seen_of(stack: Stack) -> System:
    """What a measurement can see of a stack from beside it."""
    urls = [*(f"{url}/metrics" for url in stack.api_urls), *stack.worker_metrics_urls]
    return System(urls, {name: process.pid for name, process in stack.processes.items()})


def measure(options: BenchOptions, target: str, environment: Mapping[str, str], console: Console) -> Path:
    """Measure a system that somebody else runs; its servers' counters are read where the environment names them."""
    _check(options)
    database_url, named = named_database(environment), environment.get("REDIS_URL")
    redis_url = server_of(named) if named else None
    if options.protocol == "openai" and environment.get("OPENAI_MODEL"):
        options = replace(options, model=None)
    with errors_say_what_to_do():
        # Of somebody else's system one API's metrics are in sight: enough for what is written, not for the workers.
        metrics = () if options.protocol == "openai" else (f"{target.rstrip('/')}/metrics",)
        system = System(metrics)
        known = {"own_system": False}
        if options.scenario != ROLLBACK:
            return run_bench(options, target, database_url, redis_url, console, known, system)
        with flipping.borrowed_flag(database_url or "", load_settings().default_backend) as controls:
            return run_bench(options, target, database_url, redis_url, console, known, system, controls)


def with_flips(
    options: BenchOptions, target: str | None, environment: Mapping[str, str], *, every_s: float | None, kill: bool
) -> BenchOptions:
    """Complete the options of a rollback by what this system does without its chunk store; refuse what can't be."""
    settings = load_settings()
    if target and not environment.get("DATABASE_URL"):
        raise UsageError("A rollback flips the flag, which lives in the database: set DATABASE_URL to the target's.")
    if kill and (target or environment.get("REDIS_URL")):
        raise UsageError(
            "Only a chunk store of our own can be killed: leave out --target and REDIS_URL, or add --no-kill."
        )
    reasons = withheld(settings)
    if missing := [f"{name} {reasons[name]}" for name in options.backends if name in reasons]:
        raise UsageError(f"{'; '.join(missing)}.")
    return replace(options, flipping=flipping.flipping(settings, every_s, loses_store=kill))


def _check(options: BenchOptions) -> None:
    try:
        check(options)
    except ValueError as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def errors_say_what_to_do() -> Iterator[None]:
    """Turn what the measurement raises into what the command line prints."""
    try:
        yield
    except NoTargetError as error:
        raise UsageError(str(error)) from error
    except (BenchError, BrokenRunError, ContinuityError, GeneratorError, CountersError, ValueError) as error:
        raise StackError(str(error)) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StackError(f"{error.strerror}: make room where the results lie (--out), and run it again.") from error


@contextlib.contextmanager
def crash_interrupts(stack: Stack) -> Iterator[None]:
    """End the measurement as Ctrl-C does when a part of the stack ends by itself; leaving the stack then says which."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            try:
                stack.check()
            except PartFailedError:
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch, name="watch the stack")
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
