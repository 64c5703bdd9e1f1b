"""Every scenario as a user of plain Locust: in one run, in its table, and from its page."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from loadtest import catalogue, recorder
from ops.ports import free_port
from ops.stack import Stack
from tests.support.targets import ROOT, running_target
from tests.support.waiting import until

FILES = (
    "chat", "ramp", "step", "spike", "trace", "open", "reconnect", "late_join", "multi_viewer", "slow_client", "cancel",
    "soak",
)  # fmt: skip
TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.0,10,{}\n2023-11-16 18:15:46.5,10,{}\n"


def locust(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "locust", *arguments, "--chunks", "12", "--chunk-rate", "40"]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def test_each_scenario_is_a_locust_user(system: Stack, tmp_path: Path) -> None:
    """All in one run without a page, one user each: every scenario has whole streams, and no broken ones."""
    files = ",".join(str(ROOT / f"loadtest/scenarios/{name}.py") for name in FILES)
    # Locust counts the time from its own start; and an answer has to last until a busy machine has cancelled it.
    options = ["--headless", "-u", str(len(FILES)), "-r", str(len(FILES)), "-t", "8", "-s", "15", "--json"]
    rows, trace = tmp_path / "rows.jsonl", tmp_path / "trace.csv"
    trace.write_text(TRACE.format(7, 9))
    options += ["--rows", str(rows), "--trace", str(trace), "--period", "2", "--chunk-rate", "10"]
    command = locust("-f", files, "--host", system.api_url, *options)
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    stats = {(one["method"], one["name"]): one for one in json.loads(done.stdout)}
    scenarios = set(catalogue.SCENARIOS) - {"constant", "poisson", "rollback"}
    assert {name for kind, name in stats if kind == "stream"} == scenarios, done.stderr
    assert all(stats["stream", name]["num_failures"] == 0 for name in scenarios), done.stderr
    figures = {name for kind, name in stats if kind == "figure"}
    assert {"ttft", "resume_latency (median of a stream)", "cancel_latency (median of a stream)"} <= figures
    assert {7, 9} <= {row.planned_chunks for row in recorder.read_streams(rows)}, "the trace's own lengths"


def test_what_the_end_of_the_run_cuts_off_is_no_failure(tmp_path: Path) -> None:
    """Streams of a minute, stopped in their middle: exit code 0, and lines of their own for what was in flight."""
    path = str(ROOT / "loadtest/scenarios/chat.py")
    with running_target() as target:
        command = locust("-f", path, "--host", target, "--headless", "-u", "2", "-r", "2", "--json")
        command += ["--chunks", "600", "--chunk-rate", "10", "--backend", "polling"]
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                until(lambda: read(f"{target}/open") == "2", "both streams are open", 60)
            finally:
                process.terminate()
            printed, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    counted = {one["name"]: (one["num_requests"], one["num_failures"]) for one in json.loads(printed)}
    assert counted["steady, cut off by the stop"] == (2, 0)
    assert counted["GET /stream/[task_id] polling, cut off by the stop"] == (2, 0)
    assert "steady" not in counted


def test_a_model_is_a_locust_scenario_too(system: Stack, tmp_path: Path) -> None:
    """Its first tokens are in Locust's table."""
    path = str(ROOT / "loadtest/scenarios/model.py")
    options = ["--headless", "-u", "1", "-t", "6", "-s", "10", "--csv", str(tmp_path / "it")]
    command = locust("-f", path, "--host", system.openai_base_url, *options)
    subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, check=True)
    with (tmp_path / "it_stats.csv").open() as file:
        names = {line["Name"] for line in csv.DictReader(file)}
    assert {"ttft", "/chat/completions"} <= names


def test_a_scenario_runs_from_locusts_page(system: Stack, tmp_path: Path) -> None:
    """The page knows our options; started from it, it shows the scenario's own figures."""
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    path = str(ROOT / "loadtest/scenarios/reconnect.py")
    command = locust("-f", path, "--host", system.api_url, "--web-host", "127.0.0.1", "--web-port", str(port))
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: "chunk_rate" in read(page), "the page is there")
            wanted = {"user_count": 2, "spawn_rate": 2, "host": system.api_url, "chunk_rate": 80, "chunks": 12}
            read(f"{page}/swarm", urlencode(wanted).encode())
            until(lambda: "resume_latency" in read(f"{page}/stats/requests"), "a figure of a resumed stream is shown")
        finally:
            process.terminate()


def read(url: str, body: bytes | None = None) -> str:
    try:
        with urlopen(url, body, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
