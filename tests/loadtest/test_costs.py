"""What the system's processes used and where a chunk's time went, on counters whose truth is known."""

import http.server
import threading
from collections.abc import Iterator

import psutil
import pytest

from loadtest import costs, result
from loadtest.clock import Offset
from loadtest.counters import Counters
from loadtest.drift import ProcessSample
from loadtest.host import sample
from loadtest.plan import Arrival, Block, Plan
from loadtest.recorder import GeneratorRow
from loadtest.result import Raw
from loadtest.summary import measure
from loadtest.usage import BlockCounters
from loadtest.watched import System, parsed
from tests.support.stream_rows import MS, intact

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
ORDER = ("polling", "pubsub", "pubsub", "polling")
DELIVERED_S = {"polling": 0.048, "pubsub": 0.0006}
PUBLISHED_S = {"polling": 0.002, "pubsub": 0.0007}
WRITE_S, CHUNKS = 0.0001, 5


def totals(polling: int, pubsub: int) -> dict[str, float]:
    """The system's metrics after so many chunks of each."""
    found: dict[str, float] = {}
    for name, count in (("polling", polling), ("pubsub", pubsub)):
        means = {"publish": PUBLISHED_S[name], "delivery": DELIVERED_S[name], "write": WRITE_S}
        for metric, mean in means.items():
            found[f'streamgauge_{metric}_seconds_sum{{backend="{name}"}}'] = count * mean
            found[f'streamgauge_{metric}_seconds_count{{backend="{name}"}}'] = count
    return found


def raw() -> Raw:
    blocks = tuple(Block(index, name, 0, 1, (Arrival(0.0, name, None, None, ""),)) for index, name in enumerate(ORDER))
    counts, counters, spent = {"polling": 0, "pubsub": 0}, [], 0.0
    for index, name in enumerate(ORDER):
        before = Counters(index * 1000 * MS, None, None, totals(**counts), {"api-1": spent, "api-2": 1.0})
        counts[name] += CHUNKS
        spent += 0.001 if name == "pubsub" else 0.004
        after = Counters(before.at_ns + 900 * MS, None, None, totals(**counts), {"api-1": spent, "api-2": 1.0})
        counters.append(BlockCounters(index, before, after))
    latency_ms = {name: 1e3 * value + 0.4 for name, value in DELIVERED_S.items()}
    rows = [
        intact(block=index, backend=name, latency_ms=latency_ms[name], chunks=CHUNKS)
        for index, name in enumerate(ORDER)
    ]
    samples = [ProcessSample(at * 1000 * MS + MS, {"api-1": 10 * at, "api-2": 1}) for at in range(4)]
    account = [GeneratorRow(index, 0, 1, 20_000, ()) for index in range(4)]
    plan = Plan(1, 1.0, blocks)
    return Raw(plan, ["polling", "pubsub"], rows, account, [sample()], counters, HERE, HERE, [], False, samples)


def test_the_hops_add_up_to_the_mean_delivery_and_transit_may_be_negative() -> None:
    """Polling's chunks wait to be seen; pub/sub's overtake their own acknowledgement."""
    made = {name: costs.of_backend(name, measure(raw().streams), raw())["hops_s"] for name in DELIVERED_S}
    assert made["polling"] == pytest.approx({"publish": 0.002, "transit": 0.0459, "write": 0.0001, "client": 0.0004})
    assert made["pubsub"]["transit"] == pytest.approx(-0.0002)
    for name, hops in made.items():
        assert sum(hops.values()) == pytest.approx(DELIVERED_S[name] + 0.0004)


def test_cpu_is_per_chunk_and_kind_and_memory_is_the_most_at_once() -> None:
    """By the blocks of the backend alone, all processes of a kind together, and the load's own beside them."""
    made = {name: costs.of_backend(name, measure(raw().streams), raw()) for name in DELIVERED_S}
    assert made["polling"]["cpu_us_per_chunk"] == pytest.approx({"api": 800.0, "load": 4.0})
    assert made["pubsub"]["cpu_us_per_chunk"] == pytest.approx({"api": 200.0, "load": 4.0})
    assert made["polling"]["peak_rss_bytes"] == {"api": 31}
    assert made["pubsub"]["peak_rss_bytes"] == {"api": 21}


def test_both_are_in_the_result_and_the_published_units() -> None:
    """With a mean of publishing for each quartet."""
    made = result.make(raw(), {}, {}, "2026-01-01T00:00:00+00:00")["backends"]["pubsub"]
    assert made["by_quartet"]["publish.mean"] == [pytest.approx(0.0007)]
    assert made["by_quartet"]["delivery_latency.mean"] == [pytest.approx(0.001, rel=1e-3)]
    assert set(made["cpu_us_per_chunk"]) == {"api", "load"}


METRICS = """# TYPE streamgauge_publish_seconds histogram
streamgauge_publish_seconds_bucket{backend="pubsub",le="0.1"} 3.0
streamgauge_publish_seconds_count{backend="pubsub"} 3.0
streamgauge_publish_seconds_sum{backend="pubsub"} 0.25
streamgauge_publish_seconds_created{backend="pubsub"} 1.7e+09
streamgauge_viewers{backend="pubsub"} 4.0
python_gc_objects_collected_total{generation="0"} 75.0
"""


class Exposed(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(METRICS.encode())

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def metrics_url() -> Iterator[str]:
    """A process that exposes the metrics above."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Exposed) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/metrics"
        server.shutdown()


def test_totals_are_ours_and_added_up_over_the_processes(metrics_url: str) -> None:
    """Buckets, gauges and what others count are left out; a process that is away makes the whole unknown."""
    assert parsed(METRICS) == {
        'streamgauge_publish_seconds_count{backend="pubsub"}': 3.0,
        'streamgauge_publish_seconds_sum{backend="pubsub"}': 0.25,
    }
    assert System([metrics_url, metrics_url]).totals() == {name: 2 * one for name, one in parsed(METRICS).items()}
    assert System([metrics_url, "http://127.0.0.1:1/metrics"]).totals() is None
    assert System().totals() is None


def test_processor_time_is_by_process_and_unknown_once_one_has_ended() -> None:
    """Whoever owns it says that it has."""
    own = psutil.Process().pid
    assert set(System(processes={"api-1": own}).cpu_s() or {}) == {"api-1"}
    assert System(processes={"api-1": own, "gone": 2**22}).cpu_s() is None
    assert System().cpu_s() is None
