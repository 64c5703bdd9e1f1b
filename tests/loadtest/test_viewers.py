"""Who watches, and how, is planned: within the stream, the same for the same seed, alike for every backend."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import catalogue, viewers
from loadtest.options import BenchOptions, make_plan
from loadtest.plan import Block, Plan

BOTH = ("polling", "pubsub")


def planned(scenario: str, seed: int = 1, backends: tuple[str, ...] = BOTH) -> Plan:
    return make_plan(BenchOptions(quick=True, scenario=scenario, num_conversations=8, backends=backends), seed)


@given(st.sampled_from(sorted(catalogue.SCENARIOS)), st.integers(0, 100), st.integers(1, 500), st.floats(1, 200))
def test_every_place_lies_within_the_stream(name: str, seed: int, chunks: int, rate: float) -> None:
    """No viewer waits for an event that will never come."""
    made = catalogue.named(name).watch(random.Random(seed), 2, chunks, rate)
    drops = [drop.after for viewer in made.viewers for drop in viewer.drops]
    assert drops == sorted(set(drops))
    assert all(0 <= place < chunks for place in drops)
    assert all(0 <= viewer.joins_after <= chunks for viewer in made.viewers)
    assert made.cancel_after is None or 1 <= made.cancel_after <= chunks
    assert made.viewers[0].joins_after == 0


@pytest.mark.parametrize("name", ["reconnect", "late-join", "multi-viewer", "slow-client", "cancel"])
def test_both_backends_have_the_same_viewers(name: str) -> None:
    """So what they differ by is theirs; a lead and a warm-up of the same kind enter no figure."""
    watched: dict[int, set[str]] = {}
    for block in planned(name).blocks:
        watched.setdefault(block.segment, set()).add(repr([one.watching for one in block.arrivals]))
    assert all(len(kinds) == 1 for kinds in watched.values())
    assert planned(name, 5) == planned(name, 5) != planned(name, 6)


@given(st.integers(0, 1000))
def test_whoever_watches_the_arrivals_are_the_same(seed: int) -> None:
    """A scenario can be held against a steady run of the same seed."""
    plain, watched = planned("steady", seed), planned("reconnect", seed)
    assert [starts(block) for block in plain.blocks] == [starts(block) for block in watched.blocks]


def test_slow_viewers_are_in_one_segment_of_each_quartet_by_turns() -> None:
    """The other is what theirs is held against; neither comes first more often."""
    quartets = [(first, first + 1) for first in range(1, 9, 2)]
    slow = [[has_slow(segment) for segment in pair] for pair in quartets]
    assert slow == [[False, True], [True, False], [False, True], [True, False]]


def has_slow(segment: int) -> bool:
    made = viewers.beside_slow(random.Random(1), segment, 20, 20.0)
    return any(viewer.slow for viewer in made.viewers)


def test_a_soak_is_one_long_block_a_backend() -> None:
    """After a warm-up of its own, with as many arrivals as the duration asks for, at equal distances."""
    made = make_plan(BenchOptions(scenario="soak", duration="2m", backends=BOTH), 1)
    assert [(block.backend, block.quartet) for block in made.blocks] == [
        ("polling", None), ("polling", 0), ("pubsub", None), ("pubsub", 0),
    ]  # fmt: skip
    long = made.blocks[1]
    assert len([one for one in long.arrivals if one.counted]) == 240
    assert made.soak_s == 120


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), (" 2h ", 7200)])
def test_durations_are_read(text: str, seconds: float) -> None:
    """As a person writes them."""
    assert catalogue.duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3s", "10 minutes", "1e3", "m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With how to write one."""
    with pytest.raises(ValueError, match="write it like 90s, 10m or 2h"):
        catalogue.duration_s(text)


def test_a_duration_without_a_soak_is_refused() -> None:
    """It would be ignored in silence."""
    with pytest.raises(ValueError, match="add --scenario soak"):
        make_plan(BenchOptions(duration="10m"), 1)


def starts(block: Block) -> list[tuple[float, str | None]]:
    return [(one.at_s, one.model) for one in block.arrivals]
