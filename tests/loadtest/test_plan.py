"""What is sent is decided beforehand, fairly for every backend."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import plan, schedules
from loadtest.plan import Block, Plan, Shape
from loadtest.trace import Request

BOTH = ("polling", "pubsub")
MANY = [BOTH, ("a", "b", "c"), ("a", "b", "c", "d")]


def sized(seed: int = 1, *, quick: bool = True, conversations: int | None = None, rate: float = 20.0) -> Shape:
    return plan.shape(quick=quick, conversations=conversations, chunk_rate=rate, model="scripted", seed=seed)


def work(block: Block) -> list[tuple[float, str | None, int | None, str]]:
    return [(one.at_s, one.model, one.max_tokens, one.prompt) for one in block.arrivals]


@given(st.integers(0, 10_000), st.sampled_from(MANY))
def test_backends_alternate_in_balanced_quartets(seed: int, backends: tuple[str, ...]) -> None:
    """ABBA or BAAB, or with more of them ABCCBA: a steady drift of the machine cancels out; so does it in AA'A'A."""
    blocks = [
        block for block in plan.scheduled(sized(seed), backends, schedules.steady).blocks if block.quartet is not None
    ]
    for quartet in {block.quartet for block in blocks}:
        played = [block for block in blocks if block.quartet == quartet]
        names = [block.backend for block in played if not block.twin]
        assert names == names[::-1]
        assert sorted(names[: len(backends)]) == sorted(backends)
        assert [block.twin for block in played if block.backend == names[0]] == [False, True, True, False]


@given(st.integers(0, 10_000), st.sampled_from(MANY))
def test_every_backend_follows_itself_in_a_run(seed: int, backends: tuple[str, ...]) -> None:
    """So that its queries can be told apart, also where many share the quartets."""
    blocks = plan.scheduled(sized(seed), backends, schedules.steady).blocks
    assert {now.backend for before, now in pairwise(blocks) if before.backend == now.backend} == set(backends)


def test_the_order_is_drawn() -> None:
    """Any backend may come first."""
    firsts = {plan.scheduled(sized(seed), MANY[2], schedules.steady).blocks[4].backend for seed in range(50)}
    assert firsts == set(MANY[2])


@given(st.integers(0, 10_000), st.sampled_from(MANY))
def test_all_backends_get_the_same_work(seed: int, backends: tuple[str, ...]) -> None:
    """A segment is played once by each: same instants, models, lengths and prompts."""
    for made in (
        plan.scheduled(sized(seed), backends, schedules.steady),
        plan.replay(sized(seed), backends, trace(12), quick=False),
    ):
        by_segment: dict[int, list[Block]] = {}
        for block in made.blocks:
            if block.twin:
                continue
            by_segment.setdefault(block.segment, []).append(block)
        for played in by_segment.values():
            assert Counter(block.backend for block in played) == Counter(backends)
            assert all(work(block) == work(played[0]) for block in played)


def test_a_twin_plays_its_backends_block_again() -> None:
    """What differs between the two is noise and nothing else."""
    blocks = plan.scheduled(sized(), BOTH, schedules.steady).blocks
    firsts = {(one.backend, one.segment): one for one in blocks if one.quartet is not None and not one.twin}
    twins = [one for one in blocks if one.twin]
    assert len(twins) == 2 * plan.QUICK_QUARTETS
    assert all(twin.arrivals == firsts[twin.backend, twin.segment].arrivals for twin in twins)


def test_warm_ups_and_the_stream_after_a_switch_do_not_count() -> None:
    """One warm-up block per backend, and in every block a first stream that is discarded."""
    made = plan.scheduled(sized(), BOTH, schedules.steady)
    warmups = [block for block in made.blocks if block.quartet is None]
    assert Counter(block.backend for block in warmups) == Counter(BOTH)
    assert not any(arrival.counted for block in warmups for arrival in block.arrivals)
    assert all(not block.arrivals[0].counted for block in made.blocks)
    assert warmups[-1].backend == made.blocks[2].backend


def test_the_same_seed_makes_the_same_plan_and_another_seed_another() -> None:
    """A run can be repeated."""
    assert (
        plan.scheduled(sized(5), BOTH, schedules.steady)
        == plan.scheduled(sized(5), BOTH, schedules.steady)
        != plan.scheduled(sized(6), BOTH, schedules.steady)
    )


@given(st.integers(1, 500), st.booleans())
def test_as_many_conversations_as_are_wanted_are_measured(wanted: int, quick: bool) -> None:
    """Per backend; one is two, since a quartet has two segments, and no block is empty."""
    made = plan.scheduled(sized(conversations=wanted, quick=quick), BOTH, schedules.steady)
    counted = Counter(one.backend for block in made.blocks if not block.twin for one in block.arrivals if one.counted)
    assert [counted[name] for name in BOTH] == [max(wanted, 2)] * 2
    assert all(len(block.arrivals) > 1 for block in made.blocks)


def test_a_quick_run_is_short_and_large_enough() -> None:
    """The streams' own time stays far below a minute, with at least 20 streams a backend."""
    made = plan.scheduled(sized(), BOTH, schedules.steady)
    seconds = sum(
        max(one.at_s + plan.MODEL_TTFT_S + (one.chunks or 0) / 20 for one in block.arrivals) for block in made.blocks
    )
    counted = Counter(one.backend for block in made.blocks if not block.twin for one in block.arrivals if one.counted)
    assert seconds < 42
    assert min(counted.values()) >= 20


def test_the_model_name_carries_pace_and_length() -> None:
    """20 chunks/s are gaps of 0.05 s; every stream has a seed of its own, so that no two have the same text."""
    made = plan.scheduled(sized(), BOTH, schedules.steady)
    models = [one.model or "" for one in made.blocks[2].arrivals]
    assert models[1].startswith("scripted?ttft=0.2&gap=0.05&chunks=24&seed=")
    assert len(set(models)) == len(models)


def test_a_trace_sets_arrivals_and_output_lengths() -> None:
    """`chunks=max` makes the model write exactly max_tokens; distances are the recorded ones."""
    made = plan.replay(sized(), BOTH, trace(8), quick=False)
    block = next(one for one in made.blocks if one.quartet is not None and one.segment == 1)
    recorded = block.arrivals[1:]
    assert [one.max_tokens for one in recorded] == [10, 11]
    assert "chunks=max" in (recorded[0].model or "")
    assert recorded[1].at_s - recorded[0].at_s == pytest.approx(0.5)


def test_one_backend_is_played_alone_and_none_or_one_twice_is_refused() -> None:
    """A comparison is between different ones."""
    alone = plan.scheduled(sized(), ("pubsub",), schedules.steady)
    assert {block.backend for block in alone.blocks} == {"pubsub"}
    for backends in (("a", "b", "a"), ("a", "a"), ()):
        with pytest.raises(ValueError, match="different backends can be measured"):
            plan.scheduled(sized(), backends, schedules.steady)


def test_impossible_sizes_are_refused_with_the_fix() -> None:
    """Not half-made plans."""
    with pytest.raises(ValueError, match="give 1 or more"):
        sized(conversations=0)
    for rate in (0, -1, math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="give the chunks per second"):
            sized(rate=rate)
    with pytest.raises(ValueError, match="give a longer trace"):
        plan.replay(sized(), BOTH, trace(1), quick=False)


def test_a_plan_survives_the_file_and_another_file_is_refused(tmp_path: Path) -> None:
    """The generator plays exactly what was planned."""
    made = plan.scheduled(sized(), BOTH, schedules.steady)
    plan.save(made, tmp_path / "plan.json")
    assert plan.load(tmp_path / "plan.json") == made
    (tmp_path / "plan.json").write_text('{"blocks": 3}')
    with pytest.raises(msgspec.ValidationError):
        plan.load(tmp_path / "plan.json")


def trace(count: int) -> list[Request]:
    return [Request(index * 0.5, 100, 10 + index) for index in range(count)]


def test_timeouts_leave_room_for_the_longest_stream() -> None:
    """A slow system is not cut off; a hung one is."""
    made: Plan = plan.replay(sized(), BOTH, [Request(0, 1, 1), Request(1, 1, 400)], quick=False)
    assert made.stream_timeout_s > 400 / 20
