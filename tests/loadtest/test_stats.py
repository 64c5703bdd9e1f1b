"""The arithmetic behind every published number."""

import math

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from loadtest.stats import Distribution, log_ratio_interval, peak, t_95

DURATIONS = st.lists(st.integers(1_000, 59_000_000_000), min_size=1, max_size=200)


@given(DURATIONS, st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_a_percentile_is_the_value_of_its_rank_to_three_digits(values: list[int], percent: float) -> None:
    """Against the sorted list: within the histogram's promise of 0.1 % (and its unit of 1 µs)."""
    rank = max(1, int(percent * len(values) / 100 + 0.5))
    exact_s = sorted(values)[rank - 1] / 1e9
    assert Distribution(values).percentile_s(percent) == pytest.approx(exact_s, rel=1.1e-3, abs=1e-6)


@given(DURATIONS, DURATIONS, st.sampled_from([50.0, 95.0, 99.9, 100.0]))
def test_a_percentile_is_the_histograms_own(values: list[int], more: list[int], percent: float) -> None:
    """To the last digit of the library's, also when more was counted or merged after it was first asked for."""
    found, library = Distribution(values), HdrHistogram(1, 60_000_000, 3)
    assert found.percentile_s(percent) is not None
    found.add(more[0])
    assert found.percentile_s(percent) is not None
    found.merge(Distribution(more[1:]))
    for value in [*values, *more]:
        library.record_value(round(value / 1000))
    assert found.percentile_s(percent) == library.get_value_at_percentile(percent) / 1e6


def test_the_published_shape_has_seconds_and_counts() -> None:
    """Ten durations of 50 ms: every percentile is 50 ms, the maximum exact."""
    shape = Distribution([50_000_000] * 10).as_json()
    assert shape["p50"] == shape["p999"] == shape["max"] == 0.05
    assert (shape["count"], shape["adjusted"]["lost"]) == (10, 0)


def test_nothing_measured_is_null_and_never_zero() -> None:
    """A backend that delivered nothing is not infinitely fast."""
    shape = Distribution().as_json()
    assert shape["p50"] is None
    assert shape["max"] is None
    assert shape["count"] == 0


def test_lost_streams_count_as_infinite_in_the_adjusted_percentiles() -> None:
    """Two of ten lost: p50 stands, p90 is beyond every success."""
    shape = Distribution([1_000_000] * 8, lost=2).as_json()
    assert shape["adjusted"]["p50"] == pytest.approx(0.001, rel=1e-3)
    assert shape["adjusted"]["p90"] is None
    assert shape["adjusted"]["infinite"] == ["p90", "p95", "p99", "p999"]
    assert shape["p99"] == pytest.approx(0.001, rel=1e-3)


@given(DURATIONS, st.integers(0, 50))
def test_losses_never_improve_a_percentile(values: list[int], lost: int) -> None:
    """Adjusted p90 is at least the p90 of the successes, or infinite."""
    found = Distribution(values, lost=lost)
    adjusted, plain = found.adjusted_s(90), found.percentile_s(90)
    assert plain is not None
    assert adjusted is None or adjusted >= plain * (1 - 1e-9) or not lost


def test_what_lies_outside_the_histogram_is_counted_as_such() -> None:
    """A negative duration or one above a minute is kept at the edge and shown."""
    shape = Distribution([-5_000, 61_000_000_000]).as_json()
    assert (shape["below_zero"], shape["above_range"], shape["count"]) == (1, 1, 2)
    assert shape["max"] == 61.0


def test_the_ratio_is_the_geometric_mean_with_a_t_interval() -> None:
    """Three quartets with ratios 2, 2, 2 leave no doubt; 1, 2, 4 leave a lot."""
    assert log_ratio_interval([math.log(2)] * 3) == {
        "estimate": pytest.approx(2),
        "low": pytest.approx(2),
        "high": pytest.approx(2),
        "quartets": 3,
    }
    wide = log_ratio_interval([0.0, math.log(2), math.log(4)])
    assert wide["estimate"] == pytest.approx(2)
    # ln 2 · 4.303 / √3 either way
    assert wide["high"] == pytest.approx(2 * math.exp(math.log(2) * 4.303 / math.sqrt(3)), rel=1e-6)


def test_one_quartet_gives_no_interval_and_none_no_estimate() -> None:
    """Nothing is invented."""
    assert log_ratio_interval([0.5])["low"] is None
    assert log_ratio_interval([])["estimate"] is None


def test_students_t_is_right_beyond_the_table() -> None:
    """Published values: 2.0211 at 40 degrees, 1.9840 at 100."""
    assert t_95(1) == 12.706
    assert t_95(40) == pytest.approx(2.0211, abs=2e-3)
    assert t_95(100) == pytest.approx(1.9840, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=30))
def test_the_peak_is_the_most_intervals_over_any_instant(raw: list[tuple[int, int]]) -> None:
    """Counted the slow way at every instant."""
    intervals = [(start, start + length) for start, length in raw]
    slow = max((sum(start <= at < end for start, end in intervals) for at in range(71)), default=0)
    assert peak(intervals) == slow
