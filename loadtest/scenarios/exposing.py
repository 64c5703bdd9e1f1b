"""Beside any scenario, serves what it sees while it runs: `locust -f SCENARIO.py,exposing.py --metrics-port 9646`."""

import time
from collections import deque
from typing import Any

import gevent
from locust import events
from prometheus_client import CollectorRegistry, start_http_server

from loadtest import recorder
from loadtest.clock import Offset
from loadtest.exposition import Exposition

LOOPBACK = "127.0.0.1"
PROBE_S = 0.02
PROBES = 50
"""The last second's."""


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--metrics-port", type=int, required=True, help="where Prometheus may scrape the run")
    parser.add_argument("--clock-offset-ns", type=int, default=0, help="how far the servers' clock is behind ours")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _serve(environment: Any, **_rest: Any) -> None:
    options = environment.parsed_options
    lag_ns: deque[int] = deque(maxlen=PROBES)
    offset = Offset(same_host=options.clock_offset_ns == 0, offset_ns=options.clock_offset_ns, bound_ns=0)
    exposition = Exposition(offset, lag_ns)
    registry = CollectorRegistry()
    registry.register(exposition)
    # Locust has patched threads and sockets by now, so this serves in the loop that it tells about.
    start_http_server(options.metrics_port, LOOPBACK, registry)
    recorder.WATCHERS.append(exposition)
    gevent.spawn(_probe, lag_ns)


def _probe(lag_ns: "deque[int]") -> None:
    while True:
        before = time.monotonic_ns()
        gevent.sleep(PROBE_S)
        lag_ns.append(max(0, time.monotonic_ns() - before - round(PROBE_S * 1e9)))
