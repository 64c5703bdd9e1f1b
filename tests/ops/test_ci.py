"""Workflows to copy, as far as they can be checked without GitHub: their shape, and that what they name exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "ops/ci").glob("*.yml"))
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_the_shape_of_one(path: Path) -> None:
    """It has a name, says when it runs, and each job runs somewhere, ends in time, and does one thing a step."""
    workflow = yaml.safe_load(path.read_text())
    assert set(workflow) == {"name", True, "jobs"}  # `on` is a boolean to YAML 1.1
    for job in workflow["jobs"].values():
        assert (
            {"runs-on", "timeout-minutes", "steps"}
            <= set(job)
            <= {"runs-on", "timeout-minutes", "steps", "permissions"}
        )
        assert job["runs-on"] == "ubuntu-latest"
    for step in steps(path):
        assert ("uses" in step) != ("run" in step)
        assert set(step) <= {"uses", "run", "with", "name", "if"}
        assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_names_exists(path: Path) -> None:
    """Locks and make's targets; and what is installed beside them is one version."""
    for command in (step["run"] for step in steps(path) if "run" in step):
        assert all((ROOT / name).exists() for name in re.findall(r"[\w-]+\.lock", command))
        assert set(re.findall(r"\bmake (?:-C \S+ )?(\w+)", command)) <= TARGETS
        installed = re.search(r"pip install (.*)", command)
        assert not installed or all("==" in package for package in installed[1].split())


def test_what_is_installed_is_what_is_audited() -> None:
    """Both locks, by their hashes, each week and at each pull request; with no right but to read.

    A package that the advisories do not know fails, too: else an audit that asked nobody would pass.
    """
    (audit,) = (path for path in WORKFLOWS if path.name == "audit.yml")
    workflow = yaml.safe_load(audit.read_text())
    assert set(workflow[True]) == {"pull_request", "schedule"}
    assert workflow["jobs"]["audit"]["permissions"] == {"contents": "read"}
    assert "make audit" in [step.get("run") for step in steps(audit)]
    made = subprocess.run(
        ["make", "--dry-run", "--always-make", "audit"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r"cyclonedx-py requirements requirements\.lock .*build/sbom\.json", made)
    looked_up = re.search(r"pip-audit --strict .*--require-hashes (.*)", made)
    assert looked_up
    assert looked_up[1] == "-r requirements.lock -r requirements-dev.lock"
    assert all("==" in tool for tool in re.findall(r"pip install (?:--\S+ )*(.*)", made)[0].split())
