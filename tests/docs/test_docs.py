"""The documents can't drift: what exists is named in them, and what they name exists."""

import re

import pytest
from prometheus_client.metrics import MetricWrapperBase
from typer.main import get_command

from app.settings import VARIABLES
from app.streaming.backends import NAMES
from app.telemetry import metrics
from ops.chaos.scenarios import ALL
from ops.cli import app as command_line
from tests.docs.blocks import ROOT


def test_every_setting_is_documented_and_every_documented_setting_exists() -> None:
    """docs/settings.md is the list."""
    text = (ROOT / "docs/settings.md").read_text()
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", text))
    assert documented == VARIABLES


def test_every_metric_is_documented() -> None:
    """docs/metrics.md names each as `/metrics` shows it, with its kind and its labels, and no other."""
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(streamgauge_\w+)` \| (\w+) \| (.+?) \| .+ \|$", text, re.MULTILINE)
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    suffix = {"counter": "_total", "info": "_info"}
    ours = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    assert told == {
        f"{metric._name}{suffix.get(str(metric._type), '')}": (metric._type, tuple(metric._labelnames))
        for metric in ours
    }
    assert set(re.findall(r"`(streamgauge_[a-z_]+)`", text)) == set(told)


def test_every_backend_is_documented() -> None:
    """The README's table has a column for each, in the same order, and the default's setting names them."""
    row = re.search(r"^\| \|((?: `\w+` \|)+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert row
    assert tuple(re.findall(r"`(\w+)`", row[1])) == NAMES
    default = re.search(r"^\| `STREAMGAUGE_DEFAULT_BACKEND` .*$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert default
    assert all(f"`{name}`" in default[0].rpartition("|")[0].rpartition(":")[2] for name in NAMES)


def test_the_readme_counts_the_faults() -> None:
    """One of the scenarios is the control."""
    assert f"all {len(ALL) - 1} faults and a control" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", ["README.md", "docs/reference.md"])
def test_every_command_is_in_the_readme_and_on_the_one_page(document: str) -> None:
    """`streamgauge --help` holds no surprise."""
    text = (ROOT / document).read_text()
    commands = get_command(command_line).commands  # type: ignore[attr-defined]  # a group has commands
    assert [name for name in commands if f"streamgauge {name}" not in text] == []
