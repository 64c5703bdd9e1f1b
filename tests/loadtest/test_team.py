"""Several load generators are one: each stream of the plan is played once, and nothing is lost at the end."""

import contextlib
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
from rich.console import Console

from loadtest import merging, plan, recorder, summary
from loadtest.clock import Offset
from loadtest.document import read
from loadtest.generator import SCENARIO, GeneratorError, Team, worker
from loadtest.options import BenchOptions
from loadtest.recorder import StreamRow
from loadtest.run import run_bench
from loadtest.stats import Distribution
from ops.load_worker import say_if_nobody_listens
from ops.ports import free_port
from tests.support.stream_rows import MS, intact
from tests.support.targets import ROOT, own_address, running_target
from tests.support.waiting import until

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)


def arrivals_of(folder: Path) -> list[tuple[int, int]]:
    played = plan.load(folder / "plan.json")
    return sorted((block.index, index) for block in played.blocks for index in range(len(block.arrivals)))


def rows_of(folder: Path) -> list[StreamRow]:
    return recorder.read_streams(folder / "streams.jsonl")


@contextlib.contextmanager
def joined(port: int, *, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many load workers, as `streamgauge load-worker` starts them."""
    program, environment = worker("127.0.0.1", port, 1)
    options: Any = {"cwd": SCENARIO.parent, "env": environment, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(subprocess.Popen(program, **options)) for _ in range(count)]
        for one in started:
            stack.callback(one.kill)
        yield started


def test_two_processes_play_the_plan_once_and_tell_of_it_in_lines_of_json(tmp_path: Path) -> None:
    """Each arrival has one row, and both generators have told of each block.

    The standard output has a line a step, with what a person would see, and the verdict last; the standard error has
    all else.
    """
    with running_target(polling=0.05) as target:
        command = [sys.executable, "-m", "ops.cli", "bench", "--quick", "--backends", "polling", "--seed", "1"]
        command += ["--num-conversations", "4", "--quartets", "1", "--stream-seconds", "0.3"]
        command += ["--processes", "2", "--progress", "json"]
        command += ["--target", target, "--out", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    folder = Path(lines[-1]["folder"])
    made, rows = read(folder), rows_of(folder)
    assert (lines[-1]["event"], lines[-1]["verdict"]) == ("result", made.verdict.value)
    overs = [line for line in lines if line["event"] == "over"]
    assert overs[-1]["done"] == overs[-1]["total"]
    assert overs[-1]["delivery_p50_s"]["polling"] == pytest.approx(0.05, abs=0.02)
    assert overs[-1]["errors"] == 0
    assert "Streaming backends side by side" in done.stderr
    assert sorted((row.block, row.arrival) for row in rows) == arrivals_of(folder)
    accounts = recorder.read_generator(folder / "generator.jsonl")
    assert sorted({(one.block, one.generator) for one in accounts}) == [
        (block, generator) for block in range(len(plan.load(folder / "plan.json").blocks)) for generator in (0, 1)
    ]
    assert all(figures.integrity.intact == figures.streams >= 4 for figures in made.backends.values())
    assert made.settings["generators"] == 2
    asked = sum(row.backend == "polling" for row in rows)
    assert f"POST,POST /conversations/[id]/messages polling,{asked}," in (folder / "locust_stats.csv").read_text()


def test_a_worker_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody listens yet; it is silent where somebody does."""
    with socket.create_server(("127.0.0.1", 0)) as bench:
        port = bench.getsockname()[1]
        say_if_nobody_listens("127.0.0.1", port)
        assert capsys.readouterr().err == ""
    say_if_nobody_listens("127.0.0.1", port)
    said = capsys.readouterr().err
    assert f"no bench listens at 127.0.0.1:{port} yet" in said
    assert f"--expect-workers N --master-port {port}" in said


def test_the_merged_histogram_equals_that_of_one_process() -> None:
    """However the streams are dealt out: counts, extremes and every percentile are the same to the last digit."""
    rng = random.Random(1)
    rows = [intact(arrival=number, latency_ms=rng.lognormvariate(1, 1)) for number in range(200)]
    rows[7] = msgspec.structs.replace(rows[7], outcome="censored")
    whole = summary.delivery_latency(summary.measure(rows), HERE)
    merged = Distribution()
    for share in (rows[0::3], rows[1::3], rows[2::3]):
        merged.merge(summary.delivery_latency(summary.measure(share), HERE))
    assert merged.as_json() == whole.as_json()
    assert merged.mean_s == whole.mean_s


def test_workers_on_another_clock_are_put_on_the_targets(tmp_path: Path) -> None:
    """The target's clock is five seconds ahead; two workers join from beside, and find 50 ms all the same."""
    port = free_port()
    options = BenchOptions(
        quick=True,
        num_conversations=4,
        backends=("polling",),
        quartets_at_most=1,
        stream_s=0.3,
        out=tmp_path,
        seed=1,
        team=Team(expect_workers=2, port=port),
    )
    with (
        running_target(host=own_address(), skew=5.0, polling=0.05) as target,
        joined(port, count=2) as workers,
    ):
        output = io.StringIO()
        folder = run_bench(options, target, None, None, Console(file=output, width=80))
        assert f"streamgauge load-worker --master THIS_HOST --master-port {port}" in output.getvalue()
        assert [one.wait(30) for one in workers] == [0, 0]
    assert sorted((row.block, row.arrival) for row in rows_of(folder)) == arrivals_of(folder)
    clocks = list(recorder.read(folder / "clocks.jsonl", merging.Clocks))
    assert len({one.worker for one in clocks}) == 2
    assert all(one.before.offset_ns == pytest.approx(-5e9, abs=20 * MS) for one in clocks)
    made = read(folder)
    assert made.backends["polling"].delivery_latency_s.p50 == pytest.approx(0.05, abs=0.02)
    assert made.settings["clock"]["same_host"] is False
    assert made.evidence["clock_bound_s"] == max(
        bound.bound_ns / 1e9 for one in clocks for bound in (one.before, one.after) if bound is not None
    )


BENCH = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from rich.console import Console
from loadtest.generator import Team
from loadtest.options import BenchOptions
from loadtest.run import run_bench
team = Team(processes=2, port=int(sys.argv[3]))
run_bench(
    BenchOptions(quick=True, num_conversations=36, out=pathlib.Path(sys.argv[2]), seed=1, team=team),
    sys.argv[1], None, None, Console(),
)
"""


def test_a_stop_loses_nothing(tmp_path: Path) -> None:
    """SIGINT in mid-block: both workers hand in what was in flight as censored before they end."""
    with running_target() as target:
        command = [sys.executable, "-c", BENCH, target, str(tmp_path), str(free_port())]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            until(lambda: open_streams(target) >= 4, "four streams are open", timeout_s=45)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=40)
        until(lambda: open_streams(target) == 0, "no stream is open any more")
    folder = (tmp_path / "latest").resolve()
    made, rows = read(folder), rows_of(folder)
    assert made.verdict.value == "CENSORED", output
    last = max(row.block for row in rows)
    assert sum(row.outcome == "censored" for row in rows if row.block == last) >= 4
    accounts = recorder.read_generator(folder / "generator.jsonl")
    assert {one.generator for one in accounts if one.block == last} == {0, 1}
    seen = {(row.block, row.arrival) for row in rows}
    assert len(seen) == len(rows)


def test_a_worker_that_is_lost_ends_the_run_and_its_streams_count_as_censored(tmp_path: Path) -> None:
    """The other one's rows are kept; the error names what happened."""
    port = free_port()
    team = Team(expect_workers=2, port=port)
    options = BenchOptions(quick=True, num_conversations=36, backends=("pubsub",), out=tmp_path, seed=1, team=team)
    with running_target() as target, joined(port, count=2) as workers:

        def kill_one() -> None:
            until(lambda: len(accounts_in(tmp_path)) >= 2, "the warm-up is over", timeout_s=60)
            until(lambda: open_streams(target) >= 4, "four streams are open")
            os.kill(workers[0].pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        with pytest.raises(GeneratorError, match="is lost"):
            run_bench(options, target, None, None, Console(file=io.StringIO()))
        killer.join()
    folder = (tmp_path / "latest").resolve()
    made = read(folder)
    assert made.verdict.value == "CENSORED"
    cut = sum(figures.integrity.censored for figures in made.backends.values())
    assert cut > 0, made.verdict_reasons


def accounts_in(out: Path) -> list[recorder.GeneratorRow]:
    return [one for file in out.glob("*/generator.jsonl") for one in recorder.read_generator(file)]


def open_streams(target: str) -> int:
    with urlopen(f"{target}/open", timeout=5) as answer:
        return int(answer.read())
