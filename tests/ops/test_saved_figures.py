"""The commands that read saved figures: `plan` and `report`, and what they say when given something else."""

from pathlib import Path

import msgspec
import pytest

from loadtest import capacity, report
from tests.loadtest.test_capacity import document, level
from tests.support.command import streamgauge_here
from tests.support.results import run_of


def test_a_plan_is_made_of_a_search(tmp_path: Path) -> None:
    """Printed, and written where it was asked for."""
    capacity.save(document(pubsub=capacity.search(level, 10, 100, 1)), tmp_path / "capacity.json")
    done = streamgauge_here("plan", "--streams", "100", "--from", "capacity.json", "--out", "plan.md", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "**3 such systems**, 48 streams each. **Extrapolated**" in done.stdout
    assert (tmp_path / "plan.md").read_text() in done.stdout


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), ("{}", "no measured costs"), ("[", "truncated")])
def test_a_file_without_costs_says_how_to_make_one(tmp_path: Path, content: str | None, why: str) -> None:
    """In one sentence."""
    if content is not None:
        (tmp_path / "perf.json").write_text(content)
    refused = streamgauge_here("plan", "--streams", "5", "--from", "perf.json", folder=tmp_path)
    assert refused.returncode == 2
    assert why in refused.stderr
    assert "streamgauge perf --out" in refused.stderr


def test_a_page_is_made_anew_from_what_was_saved(tmp_path: Path) -> None:
    """Of a bench run and of a capacity search, given by folder or by file."""
    run, search = tmp_path / "run", tmp_path / "search"
    run.mkdir()
    search.mkdir()
    report.write(run_of(), run)
    capacity.save(document(pubsub=capacity.search(level, 10, 100, 1)), search / "capacity.json")
    for given, page in ((run, "report.html"), (run / "result.json", "report.html"), (search, "capacity.html")):
        (given.parent / page).unlink(missing_ok=True)
        done = streamgauge_here("report", str(given), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ((given if given.is_dir() else given.parent) / page).read_text().startswith("<!doctype html>")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    """With what to give instead."""
    (tmp_path / "capacity.json").write_bytes(msgspec.json.encode({"kind": "capacity"}))
    for given, why in ((tmp_path / "nowhere", "give a result.json"), (tmp_path, "run 'streamgauge capacity' anew")):
        refused = streamgauge_here("report", str(given), folder=tmp_path)
        assert refused.returncode == 2
        assert why in refused.stderr
