"""What a person on call asks the API."""

from time import time_ns
from uuid import UUID

import pytest

from ops.stack import Stack
from tests.support.client import Client
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


async def test_it_is_alive_and_ready(client: Client) -> None:
    """Readiness names each dependency."""
    assert (await client.http.get("/health")).json() == {"status": "ok"}
    ready = await client.http.get("/ready")
    assert ready.status_code == 200
    assert {name: found["ok"] for name, found in ready.json()["dependencies"].items()} == {
        "database": True,
        "store": True,
        "broker": True,
    }


@pytest.mark.parametrize("path", ["/health", "/ready", "/clock", "/metrics"])
async def test_a_probe_may_ask_for_the_head_alone(client: Client, path: str) -> None:
    """As load balancers do."""
    head = await client.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


async def test_the_clock_is_the_wall_clock(client: Client) -> None:
    """Received and sent lie between the asking and the answer."""
    before = time_ns()
    clock = (await client.http.get("/clock")).json()
    assert before <= clock["received_ns"] <= clock["sent_ns"] <= time_ns()


async def test_metrics_count_what_was_delivered(client: Client) -> None:
    """After a stream, its events are in the metrics of the API that sent them."""
    posted = await client.post(backend="pubsub")
    await client.whole(posted.task_id)
    lines = (await client.http.get("/metrics")).text.splitlines()
    sent = next(line for line in lines if line.startswith('streamgauge_events_sent_total{backend="pubsub"}'))
    assert float(sent.split()[-1]) >= 2


async def test_the_interface_is_described(client: Client) -> None:
    """OpenAPI lists every route, with problems as the errors."""
    paths = (await client.http.get("/openapi.json")).json()["paths"]
    assert {
        "/conversations",
        "/conversations/{conversation_id}",
        "/conversations/{conversation_id}/messages",
        "/stream/{task_id}",
        "/stream/{task_id}/cancel",
        "/health",
        "/ready",
        "/clock",
        "/metrics",
    } <= set(paths)
    assert "application/problem+json" in paths["/conversations"]["post"]["responses"]["422"]["content"]
    assert (await client.http.get("/docs")).status_code == 200


def led_to(page: str, name: str, exemplar: str) -> bool:
    """Whether a bucket of this latency has this exemplar."""
    buckets = [line for line in page.splitlines() if line.startswith(f"streamgauge_{name}_seconds_bucket")]
    return any(exemplar in line for line in buckets)


async def test_latencies_lead_to_traces(system: Stack, client: Client) -> None:
    """In OpenMetrics a latency's exemplar is the trace id of a message, which is its task id; plain text has none."""
    posted = await client.post("ttft=0.5&gap=0.3&chunks=6", "pubsub")  # joined before it, and longer than a second
    await client.whole(posted.task_id)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    exemplar = f'# {{trace_id="{UUID(posted.task_id).hex}"}}'
    served = (await client.http.get("/metrics", headers=accept)).text
    worker = (await client.http.get(system.worker_metrics_urls[0], headers=accept)).text
    for name in ("first_byte", "first_token", "delivery", "transit", "write", "inter_chunk"):
        assert led_to(served, name, exemplar), name
    for name in ("queue_wait", "model_ttft", "publish", "stream"):
        assert led_to(worker, name, exemplar), name
    assert exemplar not in (await client.http.get("/metrics")).text


async def test_the_queue_and_the_loop_are_watched(client: Client) -> None:
    """How much waits in the broker, and how late the API's loop runs, without anybody asking."""

    async def watched() -> bool:
        text = (await client.http.get("/metrics")).text
        names = ("queue_depth 0.0", "queue_oldest_seconds 0.0", "api_loop_lag_seconds")
        return all(f"streamgauge_{name}" in text for name in names)

    await until_awaited(watched, "the queue's depth is known")
