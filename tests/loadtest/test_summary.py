"""Rows to statistics, with rows whose figures are known beforehand."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import plan, schedules, summary
from loadtest.clock import Offset
from loadtest.plan import Plan
from loadtest.recorder import StreamRow
from loadtest.summary import measure
from tests.support.stream_rows import MS, intact, picked

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
EMPTY = Plan(1, 10.0, ())


def figures(*rows: StreamRow, offset: Offset = HERE) -> dict[str, object]:
    return summary.backend("polling", measure(rows), offset, [], EMPTY)


def test_every_metric_follows_its_definition() -> None:
    """One stream with known instants: sent 1 ms late, first byte at 6 ms, first token 250 ms after the start."""
    made = figures(intact(latency_ms=50))
    p50 = {key: value["p50"] for key, value in made.items() if isinstance(value, dict) and "p50" in value}
    assert p50 == {
        "delivery_latency_s": pytest.approx(0.050, rel=1e-3),
        "ttfb_s": pytest.approx(0.005, rel=1e-3),
        "ttft_s": pytest.approx(0.249, rel=1e-3),
        "ttft_corrected_s": pytest.approx(0.250, rel=1e-3),
        "overhead_ttft_s": pytest.approx(0.069, rel=1e-3),  # 249 ms − the model's own 180 ms
        "inter_chunk_latency_s": pytest.approx(0.050, rel=1e-3),
        "e2e_s": pytest.approx(0.499, rel=1e-3),
        "queue_wait_s": pytest.approx(0.010, rel=1e-3),
        "start_lag_s": pytest.approx(0.001, rel=1e-3),
    }
    assert (made["streams"], made["chunks"], made["peak_concurrency"]) == (1, 5, 1)


def test_an_empty_first_content_is_no_first_token() -> None:
    """Time to first token waits for text."""
    row = intact()
    row = msgspec.structs.replace(row, contents=("", *row.contents[1:]))
    assert summary.ttft_ns(row) == 299 * MS


def test_warm_ups_and_leads_are_left_out() -> None:
    """They are recorded and not counted."""
    lead = msgspec.structs.replace(intact(arrival=0, latency_ms=900), counted=False)
    warmup = msgspec.structs.replace(intact(block=0, latency_ms=900), quartet=None)
    made = figures(lead, warmup, intact())
    assert made["streams"] == 1
    assert made["delivery_latency_s"]["max"] == 0.05  # type: ignore[index]


def test_broken_and_censored_streams_are_lost_not_forgotten() -> None:
    """Their chunks count as infinite in the adjusted percentiles; the plain figure holds the intact ones."""
    holed = picked(intact(arrival=2), [0, 1, 3, 4, 5])
    censored = msgspec.structs.replace(picked(intact(arrival=3), []), outcome="censored", terminal_ns=None)
    made = figures(intact(), holed, censored)
    latency = made["delivery_latency_s"]
    assert isinstance(latency, dict)
    assert latency["count"] == 5
    assert latency["adjusted"]["lost"] == 10
    assert latency["adjusted"]["p50"] is None
    assert made["integrity"] == {
        "intact": 1, "holes": 1, "repeats": 0, "out_of_order": 0, "missing_terminal": 0, "content_mismatch": 1,
        "failed": 0, "censored": 1,
    }  # fmt: skip


def test_between_hosts_the_clocks_offset_is_taken_out() -> None:
    """A server whose clock is 40 ms behind ours would seem 40 ms slower."""
    made = figures(intact(latency_ms=50), offset=Offset(same_host=False, offset_ns=40 * MS, bound_ns=MS))
    assert made["delivery_latency_s"]["p50"] == pytest.approx(0.010, rel=1e-3)  # type: ignore[index]


def test_peak_concurrency_counts_streams_open_at_once() -> None:
    """Two at the same time, a third in another block."""
    assert figures(intact(), intact(arrival=2), intact(block=5))["peak_concurrency"] == 2


@given(st.floats(-0.5, 0.5), st.lists(st.sampled_from(["ABBA", "BAAB"]), min_size=2, max_size=4))
def test_a_steady_drift_does_not_become_a_difference(drift: float, orders: list[str]) -> None:
    """Both backends are equal and the machine slows down block by block: the ratio stays 1."""
    names = {"A": "polling", "B": "pubsub"}
    rows = [
        intact(
            block=4 * quartet + place,
            backend=names[letter],
            quartet=quartet,
            latency_ms=50 * 2.718281828 ** (drift * place),
        )
        for quartet, order in enumerate(orders)
        for place, letter in enumerate(order)
    ]
    ratio = summary.comparison("polling", "pubsub", measure(rows), HERE)["delivery_latency_p50_ratio"]
    assert ratio["estimate"] == pytest.approx(1, rel=3e-3)
    assert ratio["quartets"] == len(orders)


@given(st.floats(-0.5, 0.5), st.floats(0.5, 2.0))
def test_the_noise_floor_is_the_twins_ratio_whatever_the_drift(drift: float, apart: float) -> None:
    """A A' B B A' A with a machine that slows down: only what the twins differ by is left, and no figure has them."""
    rows = [
        msgspec.structs.replace(
            intact(
                block=6 * quartet + place,
                backend="pubsub" if place in {2, 3} else "polling",
                quartet=quartet,
                latency_ms=50 * 2.718281828 ** (drift * place) * (apart if place in {1, 4} else 1),
            ),
            twin=place in {1, 4},
        )
        for quartet in range(2)
        for place in range(6)
    ]
    floor = summary.noise_floor(measure(rows), HERE)
    assert floor is not None
    assert floor["p50"]["estimate"] == pytest.approx(apart, rel=3e-3)
    assert figures(*rows)["streams"] == 4


def test_a_quartet_with_a_missing_block_is_left_out() -> None:
    """An interrupted run compares only what it finished."""
    whole = [
        intact(block=index, backend=name, latency_ms=latency)
        for index, (name, latency) in enumerate([("polling", 50), ("pubsub", 1), ("pubsub", 1), ("polling", 50)])
    ]
    cut = [intact(block=4, backend="polling", quartet=1), intact(block=5, backend="pubsub", quartet=1)]
    ratio = summary.comparison("polling", "pubsub", measure([*whole, *cut]), HERE)["delivery_latency_p50_ratio"]
    assert (ratio["quartets"], ratio["low"]) == (1, None)
    assert ratio["estimate"] == pytest.approx(0.02, rel=2e-3)


def test_a_killed_generator_leaves_censored_streams() -> None:
    """A block that began and was never written held streams; they are not dropped."""
    size = plan.shape(quick=True, conversations=4, chunk_rate=20, model=None, seed=1)
    made = plan.scheduled(size, ("polling", "pubsub"), schedules.steady)
    rows = summary.lost_with_the_generator(made, [], [2])
    assert len(rows) == len(made.blocks[2].arrivals)
    assert {row.outcome for row in rows} == {"censored"}
