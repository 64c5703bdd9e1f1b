"""The hot paths' metrics count what prometheus-client's own count."""

import re
import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder

from app.telemetry.hot import HELD_LIMIT, HotCounter, HotHistogram

BUCKETS = (0.125, 0.5, 1.0)
amounts = st.lists(st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0, 2.0, 64.0]), max_size=50)


def made(kind: type[Histogram]) -> tuple[Histogram, CollectorRegistry]:
    registry = CollectorRegistry()
    return kind("seconds", "A help.", ("backend",), buckets=BUCKETS, registry=registry), registry


def page(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(before=amounts, after=amounts)
def test_it_shows_what_the_librarys_own_shows(before: list[float], after: list[float]) -> None:
    """Bucket by bucket, edges included, at every scrape."""
    (hot, hot_registry), (own, own_registry) = made(HotHistogram), made(Histogram)
    for part in (before, after):
        for amount in part:
            hot.labels("pubsub").observe(amount)
            own.labels("pubsub").observe(amount)
        hot.labels("polling"), own.labels("polling")
        assert page(hot_registry) == page(own_registry)


def test_exemplars_stay() -> None:
    """An observation with one is kept with it, in its own bucket, until the next one there."""
    hot, registry = made(HotHistogram)
    for amount, name in ((0.2, None), (0.3, "cafe"), (0.4, "beef"), (0.5, None), (64.0, "f00d")):
        hot.labels("pubsub").observe(amount, {"trace_id": name} if name else None)
    shown = choose_encoder("application/openmetrics-text")[0](registry).decode()
    assert re.findall(r'le="(\S+)"} \S+ # {trace_id="(\w+)"} (\S+)', shown) == [
        ("0.5", "beef", "0.4"),
        ("+Inf", "f00d", "64.0"),
    ]
    assert 'seconds_count{backend="pubsub"} 5.0' in shown


def test_a_counter_has_its_last_exemplar() -> None:
    """As the library's own does."""
    registry = CollectorRegistry()
    counter = HotCounter("sent_bytes", "A help.", registry=registry)
    counter.inc(3, {"trace_id": "cafe"})
    counter.inc(4)
    assert '_total 7.0 # {trace_id="cafe"} 3.0' in choose_encoder("application/openmetrics-text")[0](registry).decode()


def test_threads_lose_nothing() -> None:
    """Observed in several threads while another scrapes, more often than is held at once: every one is counted."""
    hot, registry = made(HotHistogram)
    child = hot.labels("pubsub")
    each = 2 * HELD_LIMIT

    def observe() -> None:
        for _ in range(each):
            child.observe(0.25)

    threads = [threading.Thread(target=observe) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        page(registry)
    assert f'seconds_bucket{{backend="pubsub",le="0.5"}} {3.0 * each}' in "\n".join(page(registry))


def test_a_counter_counts_in_every_thread() -> None:
    """By any amount, while another thread scrapes, more often than is held at once; as the library's own does."""
    hot_registry, own_registry = CollectorRegistry(), CollectorRegistry()
    hot = HotCounter("sent_bytes", "A help.", ("backend",), registry=hot_registry).labels("pubsub")
    own = Counter("sent_bytes", "A help.", ("backend",), registry=own_registry).labels("pubsub")

    def count() -> None:
        for size in range(2 * HELD_LIMIT):
            hot.inc(size)

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        page(hot_registry)
    own.inc(3 * sum(range(2 * HELD_LIMIT)))
    assert page(hot_registry) == page(own_registry)
