"""The alerts: each fires on its trouble and is silent in health, judged by Prometheus's own promtool."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from app.telemetry import metrics
from ops.prometheus import render

ROOT = Path(__file__).parent.parent.parent
RULES = yaml.safe_load(render.RULES.read_text())["groups"]
ALERTS = {rule["alert"]: rule for group in RULES for rule in group["rules"] if "alert" in rule}
LONG = 120
"""More samples than any test is long."""
Series = dict[str, str]


class Pace(NamedTuple):
    """How often promtool samples and evaluates, and when it looks: just after the alert's longest window is full."""

    every: str = "1m"
    at: str = "50m"
    in_window: int = 0
    """Samples in the longest window of a burn rate."""


PACES = {"BurnsFast": Pace("2m", "70m", 30), "BurnsOn": Pace("10m", "7h", 36), "BurnsSlowly": Pace("1h", "75h", 72)}
"""By how the alert's name ends: a few samples in each of its windows; those of days at one a minute take seconds."""


def pace_of(name: str) -> Pace:
    return next((pace for suffix, pace in PACES.items() if name.endswith(suffix)), Pace())


def ours() -> list[str]:
    """Name every metric of the app, without its kind's suffix."""
    return [value._name for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def histogram(name: str, edge: str, within: int) -> Series:
    """100 events a sample, of which this many are within the edge."""
    return {f'{name}_bucket{{le="{edge}"}}': f"0+{within}x{LONG}", f"{name}_count": f"0+100x{LONG}"}


def ended(failed: int) -> Series:
    """1,000 streams a sample, of which this many failed."""
    of = "streamgauge_streams_ended_total"
    return {f'{of}{{outcome="failed"}}': f"0+{failed}x{LONG}", f'{of}{{outcome="done"}}': f"0+{1000 - failed}x{LONG}"}


def grows(name: str, labels: str = "") -> tuple[Series, Series]:
    """A counter that should stand still."""
    return {f"{name}{{{labels}}}": "0+90x60"}, {f"{name}{{{labels}}}": "5+0x60"}


def level(bad: str, good: str, name: str) -> tuple[Series, Series]:
    """A gauge that is too high."""
    return {f'{name}{{instance="a"}}': f"{bad}x60"}, {f'{name}{{instance="a"}}': f"{good}x60"}


def generations(second: int) -> Series:
    """Two APIs that both take messages."""
    of = "streamgauge_flag_evaluations_total"
    taking = {f'{of}{{instance="{name}"}}': "0+60x60" for name in "ab"}
    return taking | {
        'streamgauge_flag_generation{instance="a"}': "7x60",
        'streamgauge_flag_generation{instance="b"}': f"{second}x60",
    }


def lost(reaped: int, gone: int) -> Series:
    """1,000 messages a sample, of which so many lost their producer."""
    return {
        'streamgauge_messages_posted_total{backend="pubsub"}': f"0+1000x{LONG}",
        'streamgauge_streams_reaped_total{backend="pubsub"}': f"0+{reaped}x{LONG}",
        'streamgauge_messages_repaired_total{finding="gone"}': f"0+{gone}x{LONG}",
        'streamgauge_messages_repaired_total{finding="complete"}': f"0+100x{LONG}",
    }


DELIVERY = ("streamgauge_delivery_seconds", "0.2048")
FIRST = ("streamgauge_first_token_seconds", "6.5536")
CASES: dict[str, tuple[Series, Series]] = {
    "DeliveryBurnsFast": (histogram(*DELIVERY, 80), histogram(*DELIVERY, 90)),
    "DeliveryBurnsOn": (histogram(*DELIVERY, 93), histogram(*DELIVERY, 95)),
    "DeliveryBurnsSlowly": (histogram(*DELIVERY, 98), histogram(*DELIVERY, 100)),
    "FirstTokenBurnsFast": (histogram(*FIRST, 80), histogram(*FIRST, 90)),
    "FirstTokenBurnsOn": (histogram(*FIRST, 93), histogram(*FIRST, 95)),
    "FirstTokenBurnsSlowly": (histogram(*FIRST, 98), histogram(*FIRST, 100)),
    "AnswersBurnsFast": (ended(20), ended(10)),
    "AnswersBurnsOn": (ended(8), ended(5)),
    "AnswersBurnsSlowly": (ended(2), ended(0)),
    "IntegrityBurnsFast": (lost(10, 10), lost(5, 5)),
    "IntegrityBurnsOn": (lost(4, 4), lost(3, 2)),
    "IntegrityBurnsSlowly": (lost(1, 1), lost(0, 0)),
    "ProcessDown": (
        {'up{job="streamgauge-api"}': "0x60"},
        {'up{job="streamgauge-api"}': "1x60", 'up{job="else"}': "0x60"},
    ),
    "MessagesRefused": grows("streamgauge_posts_refused_total", 'dependency="broker"'),
    "StoreLost": (
        grows("streamgauge_handovers_total", 'reason="lost"')[0],
        grows("streamgauge_handovers_total", 'reason="asked"')[0],
    ),
    "StoreAway": level("1", "0", "streamgauge_store_away"),
    "OutputBufferKills": grows("redis_client_output_buffer_limit_disconnections_total", 'instance="valkey"'),
    "SubscriptionsLost": grows("streamgauge_store_reconnects_total", 'instance="a"'),
    "QueueIsOld": level("30", "2", "streamgauge_queue_oldest_seconds"),
    "ProducersLost": grows("streamgauge_streams_reaped_total", 'backend="pubsub"'),
    "QueueBacksUp": level("80", "30", "streamgauge_queue_depth"),
    "WorkersFull": (
        {"streamgauge_streams_producing": "95x60", "streamgauge_worker_slots": "100x60"},
        {"streamgauge_streams_producing": "85x60", "streamgauge_worker_slots": "100x60"},
    ),
    "WorkerLoopLags": level("0.3", "0.05", "streamgauge_worker_loop_lag_seconds"),
    "ApiLoopLags": level("0.3", "0.05", "streamgauge_api_loop_lag_seconds"),
    "SlowViewers": (grows("streamgauge_catch_ups_total")[0], {"streamgauge_catch_ups_total": "0+30x60"}),
    "DatabasePoolFull": (
        {"streamgauge_database_connections": "20x60", "streamgauge_database_pool_size": "20x60"},
        {"streamgauge_database_connections": "10x60", "streamgauge_database_pool_size": "20x60"},
    ),
    "FlagSkew": (generations(6), generations(7)),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus's own tool; on a continuous integration server its absence is a failure."""
    found = shutil.which("promtool")
    if not found:
        complaint = "promtool is missing, so no alert is tested: `apt-get install prometheus`"
        pytest.fail(complaint) if os.environ.get("CI") == "true" else pytest.skip(complaint)
    return str(found)


def test_the_rules_are_what_the_objectives_make() -> None:
    """`render --check`: objectives.yml is the one file to edit."""
    assert render.main(["--check"]) == 0


def test_every_alert_has_a_case_here_and_a_runbook() -> None:
    """A person who is woken finds what to do, and no runbook is left of an alert that is gone."""
    assert set(CASES) == set(ALERTS)
    books = {ROOT / alert["annotations"]["runbook"] for alert in ALERTS.values()}
    assert books == set((ROOT / "ops/runbooks").glob("*.md"))
    for book in books:
        assert "## Look" in book.read_text()
        assert "## Do" in book.read_text()


def test_rules_ask_for_metrics_that_exist() -> None:
    """A renamed metric can't silence an alert."""
    suffixes = ("", "_total", "_bucket", "_count", "_sum")
    asked = set(re.findall(r"streamgauge_\w+", render.OBJECTIVES.read_text()))
    assert asked <= {f"{name}{suffix}" for name in ours() for suffix in suffixes}


def test_latency_objectives_are_edges_of_buckets() -> None:
    """A share within 205 ms can be read exactly only if a bucket ends there."""
    edges = set(re.findall(r'le="([\d.]+)"', render.OBJECTIVES.read_text()))
    assert edges == {"0.2048", "6.5536"}
    assert edges <= {str(edge) for edge in metrics.LATENCY_BUCKETS}


def test_promtool_accepts_the_rules(promtool: str) -> None:
    """Every expression parses."""
    subprocess.run([promtool, "check", "rules", render.RULES], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def loud(promtool: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The alerts that fire when all troubles of their pace have come at once, and those that fire in health."""
    folder = tmp_path_factory.mktemp("rules")
    paces = {pace_of(name): [other for other in CASES if pace_of(other) == pace_of(name)] for name in CASES}
    trouble, health = (
        set[str]().union(
            *(_fired(promtool, folder, pace, {name: CASES[name][state] for name in names})
              for pace, names in paces.items())
        )
        for state in (0, 1)
    )  # fmt: skip
    return trouble, health


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_alert_fires_on_its_trouble_and_is_silent_in_health(name: str, loud: tuple[set[str], set[str]]) -> None:
    """Judged by `promtool test rules`."""
    trouble, health = loud
    assert name in trouble, f"{name} does not fire"
    assert name not in health, f"{name} fires in health"


@pytest.mark.parametrize("pace", ["BurnsFast", "BurnsOn"])
def test_nobody_is_woken_by_a_few_messages(pace: str, promtool: str, tmp_path: Path) -> None:
    """The same trouble on fewer events in its long window than the objectives name is silent; on more it fires."""
    names = {name for name in CASES if name.endswith(pace)}
    for events, fire in ((450, set[str]()), (550, names)):
        series = {name: _scaled(name, events) for name in names}
        assert _fired(promtool, tmp_path, PACES[pace], series) == fire, events


def _scaled(name: str, events: int) -> Series:
    """An alert's trouble with so many events in its long window."""
    factor = events / (pace_of(name).in_window * (100 if name.startswith(("Delivery", "First")) else 1000))
    return {
        key: re.sub(r"\+(\d+)x", lambda found: f"+{int(found[1]) * factor:.9f}x", values)
        for key, values in CASES[name][0].items()
    }


def test_a_count_is_told_in_whole_numbers(promtool: str, tmp_path: Path) -> None:
    """Prometheus extrapolates: two streams are 2.5 of them in five minutes, which nobody can hand over."""
    rule = ALERTS["StoreLost"]
    told = {"summary": "2 live streams were handed over to polling in 5 minutes: Valkey was lost."}
    expected = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"] | told}
    series = {'streamgauge_handovers_total{reason="lost"}': "0x10 2x10"}
    _judged(promtool, tmp_path, Pace(at="12m"), series, {"StoreLost": [expected]}).check_returncode()


def _fired(promtool: str, folder: Path, pace: Pace, cases: dict[str, Series]) -> set[str]:
    """Tell which of these alerts fire among all their series: promtool is told to expect none, and names those."""
    series: Series = {}
    for name, own in cases.items():
        assert not series.keys() & own.keys(), f"{name} shares a series with another alert of its pace"
        series |= own
    done = _judged(promtool, folder, pace, series, dict.fromkeys(cases, ()))
    fired = set(re.findall(r"alertname: (\w+)", done.stdout + done.stderr))
    assert (done.returncode != 0) == bool(fired), done.stdout + done.stderr
    return fired


def _judged(
    promtool: str, folder: Path, pace: Pace, series: Series, expected: Mapping[str, Sequence[dict[str, Any]]]
) -> "subprocess.CompletedProcess[str]":
    test: dict[str, Any] = {
        "interval": pace.every,
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {"eval_time": pace.at, "alertname": name, "exp_alerts": alerts} for name, alerts in expected.items()
        ],
    }
    path = folder / "test.json"
    path.write_text(
        json.dumps(
            {
                "rule_files": [str(render.RULES)],
                "evaluation_interval": pace.every,
                "group_eval_order": [group["name"] for group in RULES],
                "tests": [test],
            }
        )
    )
    return subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, timeout=60)
