"""What can't begin is said in one line, before anything has changed: exit code 2, since 1 means rolled back."""

from pathlib import Path

import pytest

from ops.rollout.guard import DEFAULT
from tests.ops.rollout_parts import World
from tests.support.command import streamgauge_here

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pigeon"], "use one of polling, pubsub"),
        ([], "Say who is to get the messages: `streamgauge rollout BACKEND`, one of polling, pubsub"),
        (["pubsub", "--baseline", "pubsub"], "pubsub can't be held against itself"),
        (["pubsub", "--steps", "50,10"], "rising percentages"),
        (["pubsub", "--steps", "some"], "rising percentages"),
        (["pubsub", "--steps", "1,101"], "rising percentages"),
        (["pubsub", "--steps", "nan"], "steps of 0.01"),
        (["pubsub", "--steps", "0.001"], "steps of 0.01"),
        (["pubsub", "--interval", "soon"], "--interval"),
        (["pubsub", "--guard", "absent.yaml"], "Copy ops/rollout/guard.yaml"),
        (["pubsub", "--guard", "gated.yaml"], "no step after the first is 25 %"),
        (["pubsub"], "Set DATABASE_URL"),
        (["--resume"], "No rollout waits"),
        (["--status"], "begin one with"),
        (["--approve"], "begin one with"),
    ],
)
def test_what_can_not_begin_says_what_to_do(tmp_path: Path, arguments: list[str], says: str) -> None:
    """And leaves no state behind."""
    (tmp_path / "gated.yaml").write_text(DEFAULT.read_text().replace("gates: []", "gates: [25]"))
    refused = streamgauge_here("rollout", *arguments, folder=tmp_path, DATABASE_URL=NOWHERE)
    assert refused.returncode == 2, refused.stderr
    assert says in " ".join(refused.stderr.split())
    assert not list(tmp_path.rglob("state.json"))


def test_an_unfinished_rollout_is_not_forgotten_without_a_word(tmp_path: Path) -> None:
    """It can be carried on, or given up by name: then the new one begins as any other."""
    (tmp_path / ".streamgauge").mkdir()
    world = World(tmp_path / ".streamgauge" / "rollout")
    world.journal.begin(world.state())
    refused = streamgauge_here("rollout", "notify", folder=tmp_path, DATABASE_URL=NOWHERE)
    assert refused.returncode == 2
    assert "The rollout of pubsub in .streamgauge/rollout is unfinished, at 1 %" in " ".join(refused.stderr.split())
    anew = streamgauge_here("rollout", "notify", "--anew", folder=tmp_path, DATABASE_URL=NOWHERE)
    assert "Set DATABASE_URL" in anew.stderr
