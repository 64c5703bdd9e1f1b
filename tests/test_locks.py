"""The locks install the same thing everywhere: pinned, hashed, naming no index."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ["requirements.lock", "requirements-dev.lock"]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_and_hashes_every_package_and_names_no_index(name: str) -> None:
    """Every requirement has an exact version and at least one hash; no line says where to fetch it."""
    text = (ROOT / name).read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 50
    assert all(PIN.match(entry) and "--hash=sha256:" in entry for entry in entries)
    assert not re.search(r"index-url|find-links|https?://|file:", text)


def test_the_locks_agree_and_cover_what_the_project_asks_for() -> None:
    """The tests run on the very versions that `make bench` installs, and nothing asked for is missing."""
    run, dev = (dict(PIN.findall((ROOT / name).read_text())) for name in LOCKS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = {re.split(r"[<>=]", line)[0] for line in project["project"]["dependencies"]}
    asked_dev = {re.split(r"[<>=]", line)[0] for line in project["dependency-groups"]["dev"]}
    assert {name: dev.get(name) for name in run} == run
    assert asked <= set(run)
    assert asked_dev <= set(dev)
