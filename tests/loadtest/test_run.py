"""The main job's second half: a target is up, its figures end in a folder."""

import io
import json
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jsonschema
import pytest
from rich.console import Console

from loadtest import document
from loadtest.generator import Generator, GeneratorError
from loadtest.options import BenchOptions
from loadtest.run import BrokenRunError, check, run_bench
from loadtest.target import BenchError
from tests.support.targets import ROOT, mortal_target, running_target
from tests.support.waiting import until

SCHEMA = json.loads((ROOT / "docs/result.schema.json").read_text())


def result_of(folder: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return made


def test_a_run_leaves_its_result_report_and_raw_streams(tmp_path: Path) -> None:
    """The folder holds everything, `latest` points at it, and the known tenfold difference is found."""
    output = io.StringIO()
    with running_target(polling=0.05, pubsub=0.005) as target:
        options = BenchOptions(quick=True, num_conversations=2, stream_s=0.2, out=tmp_path, seed=1)
        folder = run_bench(options, target, None, None, Console(file=output, width=100), {"polling_interval_s": 0.1})
    made = result_of(folder)
    jsonschema.validate(made, SCHEMA)
    assert document.read(folder).verdict.value == made["verdict"]
    assert (tmp_path / "latest").resolve() == folder
    assert {"plan.json", "streams.jsonl", "generator.jsonl", "report.md", "report.html"} <= {
        path.name for path in folder.iterdir()
    }
    assert list(made["backends"]) == ["polling", "pubsub"]
    assert all(figures["integrity"]["intact"] == 2 for figures in made["backends"].values())
    # 55 to 5.x ms: the server's own send time is in both
    assert 0.08 < made["comparisons"][0]["delivery_latency_p50_ratio"]["estimate"] < 0.3
    report = (folder / "report.md").read_text()
    assert "The polling backend looks every 100 ms." in report
    assert "delivery_latency p50" in output.getvalue()
    assert f"verdict: {made['verdict']}" in output.getvalue()


BENCH = """
import pathlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
from rich.console import Console
from loadtest import document
from loadtest.options import BenchOptions
from loadtest.run import run_bench
options = BenchOptions(quick=True, num_conversations=12, out=pathlib.Path(sys.argv[2]), seed=1)
run_bench(options, sys.argv[1], None, None, Console())
"""


def test_ctrl_c_counts_what_was_in_flight_and_still_writes(tmp_path: Path) -> None:
    """SIGINT in the middle of a block: CENSORED, results on disk, no process left behind."""
    command = [sys.executable, "-c", BENCH]
    with running_target() as target:
        process = subprocess.Popen([*command, target, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with process:
            until(lambda: open_streams(target) >= 3, "three streams are open")
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        until(lambda: open_streams(target) == 0, "no stream is open any more")
    made = result_of(tmp_path / "latest")
    assert process.returncode in {-signal.SIGINT, 130}, output
    assert made["verdict"] == "CENSORED"
    rows = [json.loads(line) for line in (tmp_path / "latest" / "streams.jsonl").read_text().splitlines()]
    assert sum(row["outcome"] == "censored" for row in rows) >= 1


def test_a_target_that_dies_ends_the_run_early_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the plan's end: BROKEN with the second since when, said as it happens; the files are written."""
    monkeypatch.setattr("loadtest.reach.LOOK_S", 0.2)
    monkeypatch.setattr("loadtest.reach.PATIENCE_S", 0.5)
    output = io.StringIO()
    options = BenchOptions(
        quick=True, scenario="soak", duration="10m", backends=("pubsub",), stream_s=0.1, out=tmp_path, seed=1
    )
    with mortal_target() as (target, process), ThreadPoolExecutor(1) as aside:
        running = aside.submit(run_bench, options, target, None, None, Console(file=output, width=1000))
        until(lambda: whole_rows(tmp_path) >= 4, "a stream after those of the warm-up ended")
        process.kill()
        with pytest.raises(BrokenRunError, match="came whole, for the reasons above"):
            running.result(timeout=30)
    made = result_of(tmp_path / "latest")
    assert made["verdict"] == "BROKEN"
    assert re.fullmatch(
        r"BROKEN: the target could not be reached any more since second \d+", made["verdict_reasons"][0]
    )
    assert made["backends"]["pubsub"]["integrity"]["intact"] >= 1
    assert "the target can't be reached" in output.getvalue()
    assert "stopping: the target could not be reached any more" in output.getvalue()
    assert (tmp_path / "latest" / "report.html").exists()


def whole_rows(out: Path) -> int:
    return sum(path.read_text().count('"outcome":"ended"') for path in out.glob("*/streams.jsonl"))


def test_a_generator_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of its log is in the error, and the results that exist are written."""
    monkeypatch.setattr("loadtest.generator.SCENARIO", tmp_path / "missing.py")
    options = BenchOptions(quick=True, num_conversations=2, out=tmp_path)
    with running_target() as target, pytest.raises(GeneratorError, match=r"missing\.py"):
        run_bench(options, target, None, None, Console(file=io.StringIO()))
    assert result_of(tmp_path / "latest")["verdict"] == "CENSORED"


def test_a_generator_that_is_silent_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while it starts, or waits for a target that takes connections and says nothing: time passes all the same."""
    monkeypatch.setattr("loadtest.generator.QUIET_S", 0.01)
    with Generator("http://127.0.0.1:1", tmp_path / "plan.json", tmp_path) as generator:
        assert next(generator.reports()) is None


def test_what_was_cut_off_does_not_take_the_place_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`latest` stays, its own folder has what there is of the run, and both are said."""
    (tmp_path / "earlier").mkdir()
    (tmp_path / "latest").symlink_to("earlier")
    monkeypatch.setattr("loadtest.generator.SCENARIO", tmp_path / "missing.py")
    options = BenchOptions(quick=True, num_conversations=2, out=tmp_path)
    output = io.StringIO()
    with running_target() as target, pytest.raises(GeneratorError):
        run_bench(options, target, None, None, Console(file=output, width=1000))
    assert (tmp_path / "latest").resolve() == tmp_path / "earlier"
    (folder,) = (path.parent for path in tmp_path.glob("*/result.json"))
    assert f"{tmp_path / 'latest'} stays as it was." in output.getvalue()
    assert f"Report: {folder / 'report.html'}" in output.getvalue()
    assert "No stream that counts had begun" in output.getvalue()
    assert "TOO-FEW" not in output.getvalue()


def test_a_place_that_is_no_folder_is_refused_before_anything_runs(tmp_path: Path) -> None:
    """Neither the file itself nor what would lie under it; nor what only looks as if it could be written to."""
    (tmp_path / "file").touch()
    check(BenchOptions(out=tmp_path / "new" / "results"))
    for out in (tmp_path / "file", tmp_path / "file" / "results", Path("/proc/results")):
        with pytest.raises(ValueError, match="name another with --out"):
            check(BenchOptions(out=out))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("target", ["http://127.0.0.1:1", "localhost:8000", "ftp://127.0.0.1"])
def test_a_target_that_is_none_is_refused_before_anything_runs(tmp_path: Path, target: str) -> None:
    """With what to do, and no folder half-made."""
    with pytest.raises(BenchError, match=r"streamgauge up|give a URL"):
        run_bench(BenchOptions(out=tmp_path), target, None, None, Console(file=io.StringIO()))
    assert list(tmp_path.iterdir()) == []


def test_only_scenarios_import_locust() -> None:
    """Importing locust patches the whole process: everything else stays clean of it."""
    modules = [*(path.stem for path in (ROOT / "loadtest").glob("*.py") if path.stem != "__init__")]
    imports = "; ".join(f"import loadtest.{name}" for name in modules)
    check = f"{imports}; import sys; sys.exit(bool({{'locust', 'gevent'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=False).returncode == 0


def open_streams(target: str) -> int:
    with urlopen(f"{target}/open", timeout=5) as answer:
        return int(answer.read())
