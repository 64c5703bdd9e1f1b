"""`streamgauge perf` on real servers: everything is measured, nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import streamgauge_here
from tests.support.waiting import until

pytestmark = pytest.mark.long
COMMAND = [sys.executable, "-m", "ops.cli", "perf"]
SMALL = ["--streams", "3", "--seconds", "1", "--idle", "3", "--messages", "2", "--backends", "streams"]
PATIENCE_S = 200


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a small run found."""
    folder = tmp_path_factory.mktemp("perf")
    done = subprocess.run(
        [*COMMAND, *SMALL, "--out", "results/found.md"], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results/found.md").read_text() in done.stdout
    made: dict[str, Any] = json.loads((folder / "results/found.json").read_text())
    return made


@pytest.mark.timeout(PATIENCE_S + 20)
def test_every_system_serves_whole_streams(results: dict[str, Any]) -> None:
    """The floor, each backend and the reference: no hole, the terminal seen, the texts those that were committed."""
    assert (results["systems"][0], results["systems"][-1]) == ("floor", "reference")
    assert len(results["systems"]) == 3
    for points in (results["idle"], *results["levels"]):
        assert [point["system"] for point in points] == results["systems"]
        for point in points:
            found = point["found"]
            assert (found["broken"], found["unfinished"]) == (0, 0), point
            assert found["chunks"] > 0
            assert (found["texts_checked"] > 0) == (point["system"] != "floor")
    assert [point["found"]["open_streams"] for point in results["idle"]] == [3] * len(results["systems"])


@pytest.mark.timeout(PATIENCE_S + 20)
def test_every_process_is_accounted_for(results: dict[str, Any]) -> None:
    """Each kind that a system consists of has its CPU, and API and worker their memory."""
    kinds = {point["system"]: set(point["found"]["cpu_s"]) for point in results["levels"][0]}
    assert kinds["floor"] == {"client", "worker", "api", "valkey"}
    assert kinds["reference"] == kinds["floor"] | {"model"}
    assert all(kinds[name] >= kinds["reference"] | {"postgres"} for name in results["systems"][1:-1])
    assert all({"api", "worker"} <= set(point["found"]["rss_after"]) for point in results["idle"])


@pytest.mark.timeout(PATIENCE_S + 20)
def test_it_says_how_a_message_begins(results: dict[str, Any]) -> None:
    """Of each backend, and not of those that do not tell: answered, begun, asked, heard, the one after the other."""
    (begins,) = [list(parts.values()) for name, parts in results["begins"].items() if name == "streams"]
    assert len(results["begins"]) == 1
    started, asked, heard = (part["p50"] for part in begins[1:])
    assert begins[0]["p50"] > 0
    assert 0 < started < asked < heard


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--backends", "pigeon"], "no backend 'pigeon'"),
        (["--streams", "many"], "give numbers"),
        (["--streams", "0"], "give numbers"),
    ],
)
def test_a_wrong_option_starts_nothing(options: list[str], why: str, tmp_path: Path) -> None:
    """And is told in a sentence."""
    refused = streamgauge_here("perf", *options, folder=tmp_path)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(PATIENCE_S + 20)
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    """In the middle of a load: exit code 130, no process is left, and what was measured by then is kept."""
    options = ["--streams", "3,3000", "--seconds", "1", "--idle", "0", "--messages", "0", "--backends", "streams"]
    options += ["--no-reference", "--out", "found.md"]
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, *options], cwd=tmp_path, stdout=file, stderr=file, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    until(lambda: "floor: 3,000 streams" in output.read_text(), "the load began", 150)
    until(lambda: any("loadtest.bench.client" in " ".join(one.cmdline()) for one in started(process)), "it runs")
    all_of_them = started(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 130, output.read_text()
    assert not [one for one in all_of_them if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    (level,) = json.loads((tmp_path / "found.json").read_text())["levels"]
    assert [point["load"]["streams"] for point in level] == [3, 3]
    assert "**3 streams × 20 deltas/s**" in (tmp_path / "found.md").read_text()
    assert "is in found.md" in output.read_text()


def started(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    return [one for one in psutil.Process(process.pid).children(recursive=True) if one.is_running()]
