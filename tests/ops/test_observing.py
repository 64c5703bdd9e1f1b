"""The configurations of Prometheus and Alertmanager, by their own tools; Tempo's and the collector's by their shape."""

import subprocess
from pathlib import Path

import yaml

from tests.ops.test_rules import ALERTS
from tests.support.tools import tool

OPS = Path(__file__).parents[2] / "ops"


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    """With the rules where the container has them."""
    rules = (OPS / "prometheus/rules.yml").resolve()
    text = (OPS / "prometheus/prometheus.yml").read_text().replace("/etc/prometheus/rules.yml", str(rules))
    (tmp_path / "token").write_text("a token")
    text = text.replace("/tmp/metrics-token", str(tmp_path / "token"))
    (tmp_path / "prometheus.yml").write_text(text)
    command = [tool("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


def test_amtool_accepts_the_routes() -> None:
    """And each severity that our rules have goes to its receiver, none to the page that nobody watches."""
    amtool, config = tool("amtool", "prometheus-alertmanager"), OPS / "alertmanager/alertmanager.yml"
    done = subprocess.run([amtool, "check-config", config], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    receivers = {"page": "pager", "ticket": "tickets"}
    assert {alert["labels"]["severity"] for alert in ALERTS.values()} == receivers.keys()
    for severity, receiver in receivers.items():
        command = [amtool, "config", "routes", "test", f"--config.file={config}", f"severity={severity}"]
        routed = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert routed.stdout.strip() == receiver


def test_a_page_mutes_its_own_objective_alone() -> None:
    """Its slower alert, of which the same objective says nothing new; and no cause, since a cause has no objective."""
    (rule,) = yaml.safe_load((OPS / "alertmanager/alertmanager.yml").read_text())["inhibit_rules"]
    # Labels that are missing on both sides are equal to Alertmanager: hence the second matchers.
    assert rule == {
        "source_matchers": ['severity="page"', 'objective!=""'],
        "target_matchers": ['severity="ticket"', 'objective!=""'],
        "equal": ["objective"],
    }
    of: dict[str, list[str]] = {}
    for name, alert in ALERTS.items():
        of.setdefault(alert["labels"].get("objective", ""), []).append(name)
    assert "StoreAway" in of.pop("")
    for objective, names in of.items():
        assert names == [f"{objective}{suffix}" for suffix in ("BurnsFast", "BurnsOn", "BurnsSlowly")]
