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
    """Read as Alertmanager does: equal labels, where one that is missing equals one that is missing."""
    (rule,) = yaml.safe_load((OPS / "alertmanager/alertmanager.yml").read_text())["inhibit_rules"]
    assert rule["source_matchers"] == ['severity="page"', 'objective!=""']
    assert rule["target_matchers"] == ['severity="ticket"', 'objective!=""']
    assert rule["equal"] == ["objective"]
    muted: dict[str, set[str]] = {}
    for page, source in ALERTS.items():
        if source["labels"]["severity"] == "page":
            muted[page] = {
                name
                for name, target in ALERTS.items()
                if target["labels"]["severity"] == "ticket"
                and target["labels"].get("objective")
                and target["labels"]["objective"] == source["labels"]["objective"]
            }
    assert muted["DeliveryBurnsFast"] == {"DeliveryBurnsSlowly"}
    assert all(len(names) == 1 for names in muted.values())
