"""Where each scenario puts its arrivals."""

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import schedules
from loadtest.options import BenchOptions, make_plan

COUNT, SPAN_S = 3000, 10.0


def starts(name: str, seed: int = 1) -> list[float]:
    return schedules.SCHEDULES[name](random.Random(seed), COUNT, SPAN_S)


def share(name: str, low: float, high: float) -> float:
    return sum(low * SPAN_S <= at_s < high * SPAN_S for at_s in starts(name)) / COUNT


@given(st.sampled_from(sorted(schedules.SCHEDULES)), st.integers(0, 1000), st.integers(1, 50))
def test_every_schedule_starts_all_in_order_and_never_early(name: str, seed: int, count: int) -> None:
    """As many as were asked for, ascending, from the block's beginning on."""
    made = schedules.SCHEDULES[name](random.Random(seed), count, SPAN_S)
    assert len(made) == count
    assert made == sorted(made)
    assert made[0] >= 0


@pytest.mark.parametrize(
    ("name", "low", "high", "expected"),
    [
        ("steady", 0.0, 0.5, 0.5),
        ("ramp", 0.0, 0.5, 0.25),
        ("step", 0.0, 0.5, 1 / 3),
        ("spike", 0.475, 0.525, 0.525),
        ("poisson", 0.0, 0.5, 0.5),
        ("constant", 0.0, 0.5, 0.5),
    ],
)
def test_the_arrivals_lie_where_the_scenario_says(name: str, low: float, high: float, expected: float) -> None:
    """The share of the arrivals in a part of the time."""
    assert share(name, low, high) == pytest.approx(expected, abs=0.04)


def test_poisson_gaps_spread_as_much_as_their_mean_and_constant_ones_not_at_all() -> None:
    """An exponential's deviation is its mean."""
    gaps = [later - earlier for earlier, later in pairwise(starts("poisson"))]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.1)
    assert {round(later - earlier, 9) for earlier, later in pairwise(starts("constant"))} == {round(SPAN_S / COUNT, 9)}


def test_an_unknown_scenario_is_refused_with_the_known_ones() -> None:
    """Before anything starts."""
    with pytest.raises(ValueError, match=r"give one of steady, ramp, .*reconnect, late-join"):
        make_plan(BenchOptions(scenario="flood"), 1)


def test_a_trace_without_a_file_is_refused() -> None:
    """With the option that names one."""
    with pytest.raises(ValueError, match="add --trace FILE"):
        make_plan(BenchOptions(scenario="trace"), 1)


def test_a_person_may_say_how_many_quartets_and_how_long_a_stream() -> None:
    """In place of the mode's own; quartets never outnumber the conversations that they would share."""
    made = make_plan(BenchOptions(num_conversations=8, quartets_at_most=2, stream_s=0.5), 1)
    assert {block.quartet for block in made.blocks} == {None, 0, 1}
    assert {one.chunks for block in made.blocks for one in block.arrivals if one.counted} == {10}
    few = make_plan(BenchOptions(num_conversations=2, quartets_at_most=9), 1)
    assert {block.quartet for block in few.blocks} == {None, 0}


def test_a_scenario_beside_a_trace_is_refused() -> None:
    """A trace has its own arrivals; one of the two would be ignored in silence."""
    with pytest.raises(ValueError, match="leave out --scenario spike or --trace"):
        make_plan(BenchOptions(scenario="spike", trace=Path("trace.csv")), 1)
