"""The flag is flipped under load, on the real system: nothing is lost, and what is borrowed is given back."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.database import Database
from app.flag_records import FlagRecords
from app.settings import Settings
from app.streaming.backends import NAMES
from app.streaming.flag import NO_GENERATION
from app.streaming.flag_document import document_for
from ops.flipping import borrowed_flag, flipping
from tests.support.command import streamgauge_here
from tests.support.targets import ROOT

PATIENCE_S = 220
pytestmark = [pytest.mark.long, pytest.mark.timeout(PATIENCE_S + 20)]
QUICKLY = {"STREAMGAUGE_STORE_BACK_S": "1"}
CLUSTERS = {"BROKER_URL": "redis://127.0.0.1:9/0"}
ALONE = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A short run, and what it printed: four flips among all backends, the store killed at one of them."""
    folder = tmp_path_factory.mktemp("rollback")
    done = subprocess.run(
        [
            sys.executable, "-m", "ops.cli", "bench", "--quick", "--scenario", "rollback", "--backends", "all",
            "--duration", "23s", "--flip-every", "2", "--chunk-rate", "5", "--num-conversations", "20", "--seed", "6",
        ],
        cwd=folder, env=ALONE | QUICKLY, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results" / "latest", done.stdout


def made_in(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "result.json").read_text()))


def test_no_stream_is_lost_and_every_message_obeys(flipped: tuple[Path, str]) -> None:
    """Every viewer has its whole answer, on the backend that was the flag's when the question was asked."""
    made = made_in(flipped[0])
    jsonschema.validate(made, json.loads((ROOT / "docs/result.schema.json").read_text()))
    account, flips = made["continuity"], made["flips"]
    assert account["broken"] == {}
    assert account["intact"] == account["viewers"] > account["messages"] > 50
    assert account["resumed"] > 0
    assert len(flips) == len(account["pairs"]) == 4
    for one in flips:
        assert one["late"] == 0
        assert 0 < one["on_new"] + one["rerouted"] <= one["posted"], "a POST may be under way at the next flip"
        assert one["open_intact"] == one["open"] > 0
        assert one["delivery_latency_s"]["before"]["all"]["count"] > 0
    assert all(0 < one["to_first_post_s"] < one["to_first_content_s"] for one in flips if one["on_new"])


def test_only_the_loss_of_the_store_moves_streams(flipped: tuple[Path, str]) -> None:
    """Those that it met are handed over, as many as the workers count, and new messages go to the safe backend."""
    made = made_in(flipped[0])
    (lost,) = (one for one in made["flips"] if one["store_lost_s"] is not None)
    assert 2 <= lost["store_lost_s"] < 10
    assert lost["rerouted"] > 0
    account = made["continuity"]
    # One whose message was committed when its store went, before its end was stored, is moved without its message.
    assert account["handed_over"] <= account["handovers_counted"]
    assert account["handed_over"] >= lost["open_handed_over"] > 0, "some began between the kill and the flip"
    assert lost["rerouted"] <= account["rerouted"], "some were posted while the flip was being made"


def test_it_is_told_and_shown(flipped: tuple[Path, str]) -> None:
    """On the terminal as it happens and in sum, in report.md, and on the page."""
    folder, printed = flipped
    assert "flip 4/4: " in printed
    assert "and the chunk store is killed" in printed
    for text in (printed, (folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert "Continuity held: the flips cost no stream anything." in text


@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (("--target", "http://127.0.0.1:9", "--no-kill"), {}, "set DATABASE_URL to the target's"),
        (("--target", "http://127.0.0.1:9"), {"DATABASE_URL": "postgresql://x@127.0.0.1:9/x"}, "--no-kill"),
        ((), {"REDIS_URL": "redis://127.0.0.1:9"}, "--no-kill"),
        (("--backends", "polling,notify"), {}, "--no-kill"),
        (("--backends", "pubsub"), {}, "name two or more --backends"),
        (("--backends", "all"), {"STREAMGAUGE_STORE_CLUSTER": "1", **CLUSTERS}, "streams needs a single server"),
    ],
)
def test_what_can_not_be_flipped_or_killed_is_refused_at_once(
    tmp_path: Path, options: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    """With the way out, and before anything is started."""
    refused = streamgauge_here("bench", "--scenario", "rollback", *options, folder=tmp_path, **environment)
    assert refused.returncode == 2, refused.stderr
    assert words in refused.stderr
    assert not (tmp_path / ".streamgauge").exists()


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """A database whose flag nobody has set, and that forgets what it is told of it."""

    async def forget() -> None:
        async with Database.connect(database_url, 1) as database, database.driver() as connection:
            await connection.execute("DELETE FROM flag_document")

    asyncio.run(forget())
    yield database_url
    asyncio.run(forget())


def newest(database_url: str) -> dict[str, Any]:
    async def ask() -> dict[str, Any]:
        async with Database.connect(database_url, 1) as database:
            found = await FlagRecords(database).newest(NO_GENERATION)
        assert found is not None
        assert found[1] is not None
        return dict(json.loads(found[1]))

    return asyncio.run(ask())


def test_a_borrowed_flag_is_given_back_as_it_was(url: str) -> None:
    """Also when the run ends in an error; the first time nobody had set any, so the default is what it was."""
    with borrowed_flag(url, "pubsub") as controls:
        controls.flip("notify")
        assert newest(url) == document_for("notify", NAMES)
    assert newest(url) == document_for("pubsub", NAMES)
    with contextlib.suppress(RuntimeError), borrowed_flag(url, "streams") as controls:
        controls.flip("polling")
        raise RuntimeError
    assert newest(url) == document_for("pubsub", NAMES)


def test_what_the_loss_of_the_store_may_cost_follows_from_the_settings() -> None:
    """Which backends live there, where their streams go, and how long new messages stay away."""
    how = flipping(Settings(store_back_s=4), None, loses_store=True)
    assert (how.on_store, how.safe) == (("pubsub", "streams"), "polling")
    assert 4 < how.settle_s < 12
