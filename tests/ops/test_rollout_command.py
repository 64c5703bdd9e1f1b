"""What can't begin is said in one line, before anything has changed: exit code 2, since 1 means rolled back."""

from pathlib import Path

import pytest

from ops.rollout.guard import DEFAULT
from tests.ops.test_cli import streamgauge

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pigeon"], "use one of polling, pubsub"),
        ([], "use one of polling, pubsub"),
        (["pubsub", "--steps", "50,10"], "rising percentages"),
        (["pubsub", "--steps", "some"], "rising percentages"),
        (["pubsub", "--steps", "1,101"], "rising percentages"),
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
    refused = streamgauge("rollout", *arguments, folder=tmp_path, DATABASE_URL=NOWHERE)
    assert refused.returncode == 2, refused.stderr
    assert says in " ".join(refused.stderr.split())
    assert not list(tmp_path.rglob("state.json"))
