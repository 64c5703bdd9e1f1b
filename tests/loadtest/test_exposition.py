"""What a bench shows of itself while it runs: `streamgauge bench --metrics-port`."""

import io
import socket
import threading
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from rich.console import Console

from loadtest import recorder
from loadtest.options import BenchOptions
from loadtest.run import check, run_bench
from ops.ports import free_port
from tests.support.targets import running_target
from tests.support.waiting import until

Samples = dict[tuple[str, str], float]


def scrape(port: int) -> Samples:
    """Each sample by its name and backend; none while nothing is served."""
    asked = Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text"})
    try:
        with urlopen(asked, timeout=5) as answer:
            text = answer.read().decode()
            families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]  # it publishes none
    except (URLError, ConnectionError):
        return {}
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            if sample.labels.get("le", "+Inf") == "+Inf":
                key = sample.name, sample.labels.get("backend", "")
                found[key] = found.get(key, 0) + sample.value
    return found


def test_a_taken_port_is_refused_before_anything_begins(tmp_path: Path) -> None:
    """With the way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} is taken: choose another --metrics-port"):
            check(BenchOptions(out=tmp_path, metrics_port=port))


def test_a_run_can_be_scraped_while_it_runs_and_is_silent_after(tmp_path: Path) -> None:
    """What is open and what came, by backend; and what was scraped last is no more than the rows hold in the end."""
    port = free_port()
    scraped: list[Samples] = []
    with running_target() as target:
        options = BenchOptions(quick=True, num_conversations=2, stream_s=0.3, out=tmp_path, seed=1, metrics_port=port)
        run = threading.Thread(
            target=run_bench, args=(options, target, None, None, Console(file=io.StringIO())), daemon=True
        )
        run.start()

        def is_over() -> bool:
            scraped.append(scrape(port))
            return not run.is_alive()

        until(is_over, "the bench is over", 90)
    seen = [samples for samples in scraped if samples]
    assert max(samples.get(("loadtest_streams_open", "pubsub"), 0) for samples in seen) >= 1
    assert all(("loadtest_loop_lag_seconds", "") in samples for samples in seen)
    rows = recorder.read_streams(tmp_path / "latest" / "streams.jsonl")
    for backend in ("polling", "pubsub"):
        ours = [row for row in rows if row.backend == backend]
        last = seen[-1]
        assert 0 < last["loadtest_streams_ended_total", backend] <= len(ours)
        assert 0 < last["loadtest_events_received_total", backend] <= sum(len(row.kinds) for row in ours)
        assert 0 < last["loadtest_delivery_seconds_count", backend] <= sum(row.kinds.count("content") for row in ours)
    assert scrape(port) == {}
