"""The controller goes on only when the candidate has passed, goes back by itself, and changes nothing when in doubt."""

from itertools import chain, cycle, repeat
from pathlib import Path

import pytest

from ops.rollout.controller import Controller
from ops.rollout.judge import Verdict
from ops.rollout.state import Phase
from ops.usage import UsageError
from tests.ops.rollout_parts import GUARD, Did, World

SLOW, WELL = Did(latency_s=0.3), Did()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "rollout")


def verdicts(world: World) -> list[Verdict]:
    return [judgement.verdict for judgement in world.journal.judgements()]


def test_a_candidate_that_passes_gets_every_step(world: World) -> None:
    """Each after one interval; at 100 % it is held against the last figures of the baseline, and the record says so."""
    world.baseline = lambda percent: WELL if percent < 100 else None
    assert world.run(world.state()) is Phase.DONE
    assert world.moves == [1, 10, 50, 100]
    judgements = world.journal.judgements()
    assert [judgement.percent for judgement in judgements] == [1, 10, 50, 100]
    assert judgements[0].beside == "polling now"
    assert judgements[-1].beside.startswith("polling as it last was, at ")


def test_each_change_is_shown_with_when_the_next_word_is_due(world: World) -> None:
    """A step's first judgement comes after the cooldown; a gate that is closed takes an interval more."""

    def opens_at_last(_: float) -> Did:
        if len(world.shown) > 3:
            world.gates.add(100)
        return WELL

    world.candidate = opens_at_last
    gated = GUARD.replace("cooldown: 0s", "cooldown: 15s") + "gates: [100]\n"
    assert world.run(world.state(gated, steps=(50, 100))) is Phase.DONE
    assert [(word.phase, word.step, word.due_s) for word in world.shown] == [
        ("stepping", 1, 0.0),
        ("watching", 1, 75.0),
        ("watching", 1, 60.0),  # at the gate, before the judgement is written down
        ("watching", 1, 60.0),
        ("watching", 1, 60.0),
        ("stepping", 2, 0.0),
        ("watching", 2, 75.0),
        ("done", 2, None),
        ("done", 2, None),
    ]
    judgements = [word.judgement for word in world.shown if word.judgement]
    assert judgements[0].decision == "waits at the gate of 100 %"
    assert judgements[-1].decision == "done: pubsub has 100 %"


def test_a_bad_candidate_is_rolled_back_after_two_intervals(world: World) -> None:
    """It was well at 10 % and is not at 50 %."""
    world.candidate = lambda percent: SLOW if percent == 50 else WELL
    assert world.run(world.state()) is Phase.ROLLED_BACK
    assert world.moves == [1, 10, 50, 0]
    assert verdicts(world)[-2:] == [Verdict.FAIL, Verdict.FAIL]
    assert "failed 2 times at 50 %: delivery_latency.p99: 408 ms" in world.said[-1]
    assert world.told[-1][0] == "rolled_back"


def test_one_failure_between_passes_rolls_nothing_back(world: World) -> None:
    """Only failures in a row do, and a held interval between two of them is no pass."""
    does = chain([WELL, SLOW], repeat(WELL))
    world.candidate = lambda _: next(does)
    assert world.run(world.state(steps=(50,))) is Phase.DONE
    assert verdicts(world) == [Verdict.FAIL, Verdict.PASS]
    does = chain([WELL, SLOW, Did(streams=0)], repeat(SLOW))
    assert world.run(world.state(steps=(50,))) is Phase.ROLLED_BACK
    assert verdicts(world) == [Verdict.FAIL, Verdict.HOLD, Verdict.FAIL]


def test_too_few_samples_are_joined_with_the_next_interval(world: World) -> None:
    """Four streams an interval, ten asked for: the third interval has them."""
    world.candidate = lambda _: Did(streams=4)
    assert world.run(world.state(steps=(50,))) is Phase.DONE
    assert [round(judgement.seconds) for judgement in world.journal.judgements()] == [60, 120, 180]


def test_a_source_that_is_away_changes_nothing(world: World) -> None:
    """It holds until the guard's limit of time, and ends where it is."""
    world.blind = lambda: world.percent == 10
    assert world.run(world.state()) is Phase.HELD
    assert world.moves == [1, 10]
    assert set(verdicts(world)[1:]) == {Verdict.HOLD}
    assert any("name with --metrics or --prometheus what does" in said for said in world.said)
    assert "nothing is changed" in world.said[-1]


def test_a_database_that_is_away_is_tried_again_for_the_way_back(world: World) -> None:
    """A candidate that has to go does go, however long that takes."""
    world.candidate = lambda _: SLOW
    world.away = chain([False, False, False], repeat(True, 50))
    assert world.run(world.state(steps=(50,))) is Phase.ROLLED_BACK
    assert world.moves == [50, 0]


def test_a_flag_that_somebody_else_moved_is_left_alone(world: World) -> None:
    """A person who rolled back by hand is not overruled."""

    def meddle(percent: float) -> Did:
        if percent == 10:
            world.percent, world.generation = 0.0, 99
        return WELL

    world.candidate = meddle
    assert world.run(world.state()) is Phase.TAKEN
    assert world.moves == [1, 10]
    assert (world.percent, world.generation) == (0.0, 99)


class Killed(BaseException):
    """The controller's process ends here."""


@pytest.mark.parametrize("instant", range(12))
def test_a_killed_controller_changes_nothing_and_resumes(world: World, instant: int) -> None:
    """Whenever it is killed: nothing moves while it is away, and the next one makes each step once."""
    ticks = iter(range(1000))

    def dies() -> bool:
        if next(ticks) == instant:
            raise Killed
        return False

    world.away = iter(dies, None)
    with pytest.raises(Killed):
        world.run(world.state())
    standing = world.percent
    world.away = None
    state = world.journal.read()
    assert state is not None
    assert world.percent == standing
    assert Controller(state, world.around()).run() is Phase.DONE
    assert world.moves == [1, 10, 50, 100]


@pytest.mark.parametrize("before", [True, False], ids=["before the move", "after the move"])
def test_one_killed_on_its_way_back_goes_back_when_it_resumes(world: World, before: bool) -> None:
    """Whether or not the flag had moved by then."""
    world.candidate = lambda _: SLOW
    state = world.state(steps=(50,))
    state.phase, state.why, state.generation = Phase.RETURNING, "failed", 7
    world.percent = 50.0
    if not before:
        world.percent, world.generation = 0.0, 8
    assert Controller(state, world.around()).run() is Phase.ROLLED_BACK
    assert world.percent == 0.0
    assert world.moves == ([0.0] if before else [])


def test_a_gate_holds_a_step_until_somebody_opens_it_and_judging_goes_on(world: World) -> None:
    """A candidate that goes bad while it waits is rolled back all the same."""
    gated = GUARD + "gates: [50]\n"
    looks = iter(range(10_000))

    def opens_at_last(_: float) -> Did:
        if next(looks) == 6:
            world.gates.add(50)
        return WELL

    world.candidate = opens_at_last
    assert world.run(world.state(gated)) is Phase.DONE
    assert ("gate", 50.0) in [(event, facts["step"]) for event, facts in world.told]
    assert any("waits at the gate of 50 %" in judgement.decision for judgement in world.journal.judgements())
    world.gates.clear()
    does = chain([WELL, WELL, WELL, WELL], cycle([SLOW]))
    world.candidate = lambda _: next(does)
    assert world.run(world.state(gated)) is Phase.ROLLED_BACK


def test_two_controllers_can_not_run_at_once(world: World) -> None:
    """The second one is told so before it touches anything."""
    with world.journal.held(), pytest.raises(UsageError, match="--status"), world.journal.held():
        pass
