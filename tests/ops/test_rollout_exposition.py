"""What a rollout shows of itself while it runs: `streamgauge rollout --metrics-port`."""

import socket
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.ports import free_port
from ops.rollout import exposition
from ops.rollout.exposition import exposed
from ops.rollout.state import Journal
from ops.usage import UsageError
from tests.ops.rollout_parts import Did, World

Sample = tuple[str, frozenset[str]]


def scrape(port: int) -> dict[Sample, float]:
    """Each sample by its name and the labels that no other has."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.values()) - {"pubsub", "polling"}): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_the_record_is_what_is_shown(tmp_path: Path) -> None:
    """Before a rollout nothing, then its step and its guard's newest verdicts; by both names; and silence after."""
    world = World(tmp_path / "rollout", candidate=lambda percent: Did(latency_s=0.4) if percent == 50 else Did())
    port = free_port()
    with exposed(world.journal, port):
        assert scrape(port) == {}
        world.run(world.state(steps=(10, 50)))
        found = scrape(port)
        assert {name for name, _ in found} == exposition.METRICS
        assert found[exposition.STEP, frozenset()] == 0.5
        assert found[exposition.FAILURES, frozenset()] == 2
        counted = {
            verdict: found["streamgauge_rollout_judgements_total", frozenset({verdict})]
            for verdict in ("pass", "hold", "fail")
        }
        assert counted == {"pass": 1, "hold": 0, "fail": 2}
        assert found[exposition.VERDICT, frozenset({"delivery_latency.p99"})] == 2
        assert found[exposition.VERDICT, frozenset({"failed"})] == 0
    with pytest.raises(URLError):
        scrape(port)


def test_a_taken_port_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """Before the flag is touched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} is taken: choose another"), exposed(Journal(tmp_path), port):
            pass
