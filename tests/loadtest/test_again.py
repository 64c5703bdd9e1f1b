"""The command under "Again" is taken by `bench`, and plays the same."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from loadtest import again
from loadtest.generator import Team
from loadtest.options import BenchOptions, make_plan
from ops.bench_command import app

TARGET = "http://127.0.0.1:8000"


def understood(made: dict[str, Any]) -> dict[str, Any]:
    """What `bench` makes of the command of a run with these settings."""
    words = shlex.split(again.command({"settings": made, "backends": {"polling": {}}}))
    assert words[:2] == ["streamgauge", "bench"]
    return typer.main.get_command(app).make_context("bench", words[2:]).params


@pytest.mark.parametrize(
    "options",
    [
        BenchOptions(),
        BenchOptions(quick=True, num_conversations=7, quartets_at_most=2, stream_s=0.5, chunk_rate=40.0),
        BenchOptions(backends=("notify", "polling"), scenario="spike"),
        BenchOptions(scenario="soak", duration="90s"),
    ],
)
def test_the_same_plan_is_made_of_it(options: BenchOptions) -> None:
    """Every option that a plan is made of is in it."""
    given = understood(again.settings(options, TARGET, 5))
    assert given["target"] is None
    repeated = BenchOptions(
        quick=given["quick"],
        num_conversations=given["num_conversations"],
        backends=tuple(given["backends"].split(",")),
        quartets_at_most=given["quartets"],
        chunk_rate=given["chunk_rate"],
        stream_s=given["stream_seconds"],
        scenario=given["scenario"],
        duration=given["duration"],
    )
    assert make_plan(repeated, given["seed"]) == make_plan(options, 5)


def test_whom_it_asked_and_who_asked_is_in_it(tmp_path: Path) -> None:
    """A target that was given, several generators, more workers and APIs of our own."""
    options = BenchOptions(team=Team(1, 2, 5557))
    given = understood(again.settings(options, TARGET, 5) | {"own_system": False})
    assert (given["target"], given["expect_workers"], given["master_port"]) == (TARGET, 2, 5557)
    given = understood(again.settings(BenchOptions(team=Team(3)), TARGET, 5) | {"workers": 2, "apis": 4})
    assert (given["target"], given["processes"], given["workers"], given["apis"]) == (None, 3, 2, 4)


def test_a_model_is_asked_by_its_protocol_and_not_as_a_backend() -> None:
    """`--backends` would be refused."""
    options = BenchOptions(backends=("openai",), protocol="openai")
    given = understood(again.settings(options, TARGET, 5) | {"own_system": False})
    assert (given["protocol"], given["backends"], given["target"]) == ("openai", None, TARGET)


def test_a_trace_is_replayed_at_the_same_speed(tmp_path: Path) -> None:
    """Wherever it lies; without one there is no time to be scaled."""
    trace = tmp_path / "a trace.csv"
    trace.touch()
    given = understood(again.settings(BenchOptions(trace=trace, time_scale=0.5), TARGET, 5))
    assert (given["trace"], given["time_scale"]) == (trace, 0.5)
    assert "--time-scale" not in again.command({"settings": again.settings(BenchOptions(), TARGET, 5)})
