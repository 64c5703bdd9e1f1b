"""When the flag is flipped is decided beforehand; what is due is done as the load runs, and noted."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import flips, plan
from loadtest.flipper import Flipper
from loadtest.flips import Controls, Flipping, PlannedFlip, Timetable
from loadtest.generator import Progress
from loadtest.options import BenchOptions, make_plan
from loadtest.plan import Block, Plan
from tests.support.waiting import until

ALL = ("polling", "pubsub", "notify", "streams")
LOSING = Flipping(loses_store=True, on_store=("pubsub", "streams"), safe="polling", outage_s=2.0, settle_s=3.0)


def planned(seed: int = 1, how: Flipping = LOSING, duration_s: float | None = None) -> Timetable:
    return flips.timetable(seed, ALL, how, quick=True, duration_s=duration_s)


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_every_ordered_pair_is_flipped_once_before_any_is_again(seed: int, count: int) -> None:
    """However many backends there are, and whichever comes first."""
    times = flips.timetable(seed, "abcde"[:count], Flipping(), quick=True, duration_s=None)
    route = list(pairwise([times.first, *(flip.backend for flip in times.flips)]))
    pairs = list(permutations("abcde"[:count], 2))
    assert len(route) >= max(6, len(pairs))
    assert sorted(route[: len(pairs)]) == sorted(pairs)
    assert sorted(set(route[len(pairs) :])) == sorted(set(route[len(pairs) :]) & set(pairs))


def test_the_order_is_drawn_and_the_same_for_the_same_seed() -> None:
    """A run can be repeated, and another seed gives another."""
    assert planned(3) == planned(3)
    assert len({planned(seed) for seed in range(20)}) == 20


@given(st.integers(0, 10_000))
def test_the_store_is_lost_at_one_flip_away_from_it_to_another_that_needs_it(seed: int) -> None:
    """So that streams have to be handed over and new messages to be rerouted; the next flip waits for both."""
    times = planned(seed)
    (place,) = (place for place, flip in enumerate(times.flips) if flip.loses_store)
    before = times.flips[place - 1].backend if place else times.first
    assert {before, times.flips[place].backend} == {"pubsub", "streams"}
    gaps = [after.at_s - one.at_s for one, after in pairwise(times.flips)]
    assert [round(gap, 3) for gap in gaps] == [8.0 if one == place else 3.0 for one in range(len(gaps))]
    assert times.flips[0].at_s == flips.QUICK_STREAM_S, "as many streams as ever run at the first flip"


def test_a_duration_says_how_many_flips_fit() -> None:
    """One more interval is left after the last, and a duration for none is refused with one that is enough."""
    assert len(planned(how=Flipping(), duration_s=21.0).flips) == 5
    assert flips.duration(5, Flipping(), quick=True) == 21.0
    with pytest.raises(ValueError, match="give a --duration of 9s"):
        planned(how=Flipping(), duration_s=8.0)


@pytest.mark.parametrize(
    ("backends", "how", "fix"),
    [
        (("polling",), Flipping(), "name two or more --backends"),
        (("polling", "notify"), LOSING, "--no-kill"),
    ],
)
def test_what_cannot_be_flipped_is_refused(backends: tuple[str, ...], how: Flipping, fix: str) -> None:
    """One backend, or the loss of a store that none of them needs; each with the way out."""
    with pytest.raises(ValueError, match=fix):
        flips.timetable(1, backends, how, quick=True, duration_s=None)


def test_messages_leave_their_backend_to_the_flag_and_outlast_its_flips() -> None:
    """They arrive until after the last flip, hundreds run at once, and some have late or resuming viewers."""
    made = make_plan(BenchOptions(scenario="rollback", backends=ALL, chunk_rate=10, flipping=LOSING), seed=1)
    assert made.flips is not None
    warmup, block = made.blocks
    assert (warmup.quartet, block.quartet) == (None, 0)
    assert {arrival.backend for arrival in block.arrivals} == {plan.BY_FLAG}
    assert len({one.watching for one in block.arrivals}) > 100
    span = block.arrivals[-1].at_s
    assert made.flips.flips[-1].at_s < span < made.flips.flips[-1].at_s + flips.EVERY_S + 1
    stream_s = (block.arrivals[1].chunks or 0) / 10
    assert stream_s > 2 * flips.EVERY_S
    assert len(block.arrivals) * stream_s / span > 150, "streams at once"


def test_a_rollbacks_own_limits_are_said() -> None:
    """Conversations count per backend, as everywhere; a model has no flag."""
    options = BenchOptions(scenario="rollback", quick=True, backends=ALL, num_conversations=5, flipping=LOSING)
    assert len(make_plan(options, 1).blocks[1].arrivals) == 1 + 5 * len(ALL)
    with pytest.raises(ValueError, match="leave out --scenario rollback"):
        make_plan(replace(options, protocol="openai"), 1)


class System:
    """What was asked of it, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.controls = Controls(
            flip=self.asked.append,
            lose_store=lambda: self.asked.append("lose"),
            return_store=lambda: self.asked.append("return"),
            handovers=lambda: 7 + self.asked.count("lose"),
        )


def flipper(system: System, times: Timetable | None, tell: Callable[[str], object] = lambda _: None) -> Flipper:
    blocks = (Block(0, "", None, 0, ()), Block(1, "", 0, 1, ()))
    made = Flipper(Plan(1, 1.0, blocks, flips=times), system.controls, tell)
    made.prepare()
    return made


def test_what_is_due_is_done_in_order_and_noted() -> None:
    """The store is lost before the flip that it is lost at, and given back; the warm-up starts no clock."""
    system, told = System(), list[str]()
    times = Timetable("a", (PlannedFlip(0.0, "b", loses_store=True), PlannedFlip(0.05, "c")), outage_s=0.02)
    made = flipper(system, times, told.append)
    made.heard(Progress("ready", 0))
    assert system.asked == ["a"]
    made.heard(Progress("ready", 1))
    assert system.asked == ["a", "lose", "b"]

    def is_through() -> bool:
        made.heard(Progress("progress", 1))
        return system.asked[-1] == "c"

    until(is_through, "the second flip is done")
    assert system.asked == ["a", "lose", "b", "return", "c"]
    done = made.end()
    assert done is not None
    first, second = done.flips
    assert (first.before, first.backend, second.before, second.backend) == ("a", "b", "b", "c")
    assert first.lost_ns == first.at_ns <= first.done_ns <= second.at_ns <= second.done_ns
    assert first.back_ns is not None
    assert first.back_ns >= first.at_ns + 20_000_000
    assert second.lost_ns is None
    assert done.handovers == 1
    assert told == [
        "flip 1/2: a → b, and the chunk store is killed",
        "the chunk store is back, and empty",
        "flip 2/2: b → c",
    ]


def test_an_end_in_the_middle_gives_the_store_back() -> None:
    """What was not due is not done."""
    system = System()
    made = flipper(system, Timetable("a", (PlannedFlip(0.0, "b", True), PlannedFlip(60.0, "c")), outage_s=60.0))
    made.heard(Progress("ready", 1))
    done = made.end()
    assert system.asked == ["a", "lose", "b", "return"]
    assert done is not None
    assert [one.backend for one in done.flips] == ["b"]


def test_flips_that_nobody_can_do_are_no_proof() -> None:
    """The run ends before its load begins."""
    alone = Flipper(Plan(1, 1.0, (), flips=Timetable("a", ())), None, lambda _: None)
    with pytest.raises(ValueError, match="set DATABASE_URL"):
        alone.prepare()


def test_a_plan_without_flips_is_left_alone() -> None:
    """Every other scenario."""
    system = System()
    made = flipper(system, None)
    made.heard(Progress("ready", 1))
    assert made.end() is None
    assert system.asked == []
