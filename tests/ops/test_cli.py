"""The `streamgauge` command: quick to ask, and plain about what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.streaming.backends import NAMES
from ops.cli import app
from ops.options import chosen_backends
from tests.support.command import streamgauge_here

LOADED = "import sys, ops.cli; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def streamgauge(*arguments: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    """Asking for help loads neither the load generator, which patches the process, nor the app."""
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    assert not {"locust", "gevent", "celery", "sqlalchemy", "app", "loadtest"} & set(loaded)


@pytest.mark.parametrize("command", ["up", "bench", "migrate"])
def test_every_option_says_what_it_does(command: str) -> None:
    """Each command explains itself and each of its options."""
    group = typer.main.get_group(app)
    parsed = group.commands[command]
    assert parsed.help
    assert [option.name for option in parsed.params if not getattr(option, "help", None)] == []


@pytest.mark.parametrize("command", ["flag", "model", "compare", "gate", "perf", "chaos", "doctor"])
def test_help_is_passed_on(command: str, tmp_path: Path) -> None:
    """Commands whose arguments are read elsewhere show the help from there."""
    ask = streamgauge if command == "model" else streamgauge_here  # that one turns into another program
    shown = ask(command, "--help", folder=tmp_path)
    assert shown.returncode == 0
    assert command in shown.stdout.lower()


def test_migrate_wants_to_know_which_database(tmp_path: Path) -> None:
    """Without DATABASE_URL nothing is migrated, and the error says what to set."""
    refused = streamgauge("migrate", folder=tmp_path)
    assert refused.returncode == 1
    assert "Set DATABASE_URL=postgresql://" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backends", "pubsub,pubsub"), "name different backends"),
        (("--chunk-rate", "inf"), "give the chunks per second of one stream"),
        (("--chunk-rate", "nan"), "give the chunks per second of one stream"),
        (("--trace", "file", "--time-scale", "nan"), "time scale nan is no number above 0"),
        (("--time-scale", "nan"), "only a trace has a --time-scale"),
        (("--time-scale", "0"), "only a trace has a --time-scale"),
        (("--scenario", "soak", "--time-scale", "2"), "only a trace has a --time-scale"),
        (("--protocol", "openai", "--backends", "notify"), "has no backend: leave out --backends"),
        (("--flip-every", "5"), "add --scenario rollback, or leave out --flip-every"),
        (("--scenario", "spike", "--no-kill"), "add --scenario rollback"),
        (("--out", "file"), "name another with --out"),
        (("--scenario", "flood"), "flood"),
    ],
)
def test_a_bench_that_cannot_be_planned_starts_nothing(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    """A wrong option is refused at once in one line, not after a system was brought up for it."""
    (tmp_path / "file").touch()
    refused = streamgauge_here("bench", *options, folder=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert not (tmp_path / ".streamgauge").exists()


def test_backends_there_are_not_are_answered_with_those_there_are(tmp_path: Path) -> None:
    """At once, also where somebody else's system is to be measured."""
    elsewhere = ("--target", "http://127.0.0.1:9")
    for command in (("bench",), ("bench", *elsewhere), ("capacity",), ("capacity", *elsewhere)):
        refused = streamgauge_here(*command, "--backends", "polling,foo", folder=tmp_path)
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert f"no backend 'foo': use some of {', '.join(NAMES)}, or all." in refused.stderr


def test_all_stands_for_every_backend() -> None:
    """A new one needs no new word."""
    assert chosen_backends("all") == NAMES
    assert chosen_backends(" notify,polling ") == ("notify", "polling")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("bench", "--target", "localhost:8000"), "'localhost:8000' is no target: give a URL"),
        (("capacity", "--target", "localhost:8000"), "'localhost:8000' is no target: give a URL"),
        (("capacity", "--slo", "fast"), "--slo: 'fast' is no objective: write one such as"),
        (("plan", "--streams", "5", "--from", "nowhere.json"), "make one with 'streamgauge perf"),
    ],
)
def test_what_cannot_be_asked_for_is_a_matter_of_usage(tmp_path: Path, command: tuple[str, ...], words: str) -> None:
    """Exit code 2, as for an option that does not exist."""
    refused = streamgauge_here(*command, folder=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr


def test_a_target_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """Measuring a system that is not there says how to start one."""
    refused = streamgauge_here("bench", "--target", "http://127.0.0.1:9", folder=tmp_path)
    assert refused.returncode == 1
    assert "http://127.0.0.1:9 does not answer (Connection refused)" in refused.stderr
    assert "streamgauge up" in refused.stderr


def test_a_setting_that_does_not_parse_is_named(tmp_path: Path) -> None:
    """A bad setting ends the start with its name."""
    refused = streamgauge_here("bench", folder=tmp_path, STREAMGAUGE_POLLING_INTERVAL_S="soon")
    assert refused.returncode == 2
    assert "STREAMGAUGE_POLLING_INTERVAL_S" in refused.stderr
