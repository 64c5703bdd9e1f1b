"""The time left is the plan's, stretched as the run so far was."""

from loadtest import plan, schedules
from loadtest.generator import Progress
from loadtest.remaining import Remaining


def test_the_time_left_is_known_from_the_beginning_and_follows_what_happens() -> None:
    """A plan of five-second blocks says so before any stream ended; a machine that takes twice as long doubles it."""
    size = plan.shape(quick=True, conversations=12, chunk_rate=20.0, model="scripted", seed=1, quartets=1)
    made = plan.scheduled(size, ("polling", "pubsub"), schedules.steady)
    remaining = Remaining(made, 100.0)
    whole_s = remaining.left_s(100.0)
    planned_s = [max(one.at_s + 0.2 + (one.chunks or 0) / 20 for one in block.arrivals) for block in made.blocks]
    assert abs(whole_s - sum(planned_s)) < 1e-6
    assert abs(remaining.left_s(101.0) - (whole_s - 1.0)) < 1e-6
    remaining.heard(Progress("over", 0), 100.0 + 2 * planned_s[0])
    assert abs(remaining.left_s(100.0 + 2 * planned_s[0]) - 2 * sum(planned_s[1:])) < 1e-6
    remaining.heard(Progress("over", len(made.blocks) - 1), 200.0)
    assert remaining.left_s(200.0) == 0.0
