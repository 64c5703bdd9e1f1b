"""`streamgauge flag` and `streamgauge rollback`: what they say beforehand, what they do, and what they refuse."""

import asyncio
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from app.database import Database
from ops.stack import Stack, StackOptions, running_stack
from tests.support.client import Client
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
DONE, REFUSED, NOT_DRAINED = 0, 2, 3


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of its own, on which nobody else has left a message unanswered."""
    with running_stack(StackOptions(tmp_path_factory.mktemp("stack"), port=0, keep_data=False)) as stack:
        yield stack


@pytest.fixture(autouse=True)
async def forgotten(system: Stack) -> AsyncIterator[None]:
    """The flag forgets what a test told it, in every process."""
    yield
    async with Database.connect(system.database_url, 1) as database, database.driver() as connection:
        await connection.execute("DELETE FROM flag_document")
    async with httpx2.AsyncClient() as http:

        async def have_forgotten() -> bool:
            pages = [await http.get(url) for url in (f"{system.api_url}/metrics", *system.worker_metrics_urls)]
            return all("streamgauge_flag_generation 0.0" in page.text for page in pages)

        await until_awaited(have_forgotten, "every process follows")


def streamgauge(system: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**os.environ, **system.environment(), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=60,
    )


async def test_changes_are_shown_made_and_written_down(system: Stack) -> None:
    """A dry run says the same and changes nothing; each change says how to undo it; the history vouches for itself."""
    planned = streamgauge(system, "flag", "split", "polling=10", "--dry-run")
    assert "pubsub 100 % → pubsub 90 %, polling 10 %." in planned.stdout
    assert "Nothing was changed" in planned.stdout
    assert "No document is set" in streamgauge(system, "flag", "show").stdout
    made = streamgauge(system, "flag", "split", "polling=10", "--by", "ada", "--reason", "a [tenth]")
    assert made.returncode == DONE, made.stderr
    assert "Undo: streamgauge flag set pubsub" in made.stdout
    assert streamgauge(system, "flag", "target", "eve", "notify", "--by", "bob").returncode == DONE
    assert "new messages go to pubsub 90 %, polling 10 %, eve: notify." in streamgauge(system, "flag", "show").stdout
    told = streamgauge(system, "flag", "history")
    assert told.returncode == DONE
    assert "a [tenth]" in told.stdout
    assert "Each entry follows from the one before." in told.stdout


async def test_each_undo_brings_back_what_was_in_force(system: Stack) -> None:
    """Also a user's target, a share, and a flag that was switched off: the commands are run as they are shown."""

    def in_force() -> str:
        return streamgauge(system, "flag", "show").stdout.partition("new messages go to ")[2].partition("\n")[0]

    assert streamgauge(system, "flag", "set", "polling").returncode == DONE
    changes = (
        ("flag", "target", "eve o'hara", "notify"),
        ("flag", "split", "pubsub=10"),
        ("flag", "set", "streams"),
        ("rollback",),
        ("flag", "set", "pubsub"),
    )
    for change in changes:
        before = in_force()
        made = streamgauge(system, *change)
        assert made.returncode == DONE, made.stderr
        assert in_force() != before
        for command in made.stdout.partition("Undo: ")[2].strip().split(" && "):
            undone = streamgauge(system, *shlex.split(command)[1:])
            assert undone.returncode == DONE, undone.stderr
        assert in_force() == before, made.stdout
        assert streamgauge(system, *change).returncode == DONE
    again = streamgauge(system, "flag", "set", "pubsub")
    assert "Undo" not in again.stdout, "there is nothing to undo"


async def test_a_history_that_was_tampered_with_is_exit_code_1(system: Stack) -> None:
    """And names the generation."""
    for share in ("5", "10"):
        streamgauge(system, "flag", "split", f"polling={share}", "--by", "ada")
    async with Database.connect(system.database_url, 1) as database, database.driver() as connection:
        await connection.execute("UPDATE flag_document SET changed_by = 'eve'")
    told = streamgauge(system, "flag", "history")
    assert told.returncode == 1
    assert "does not follow from the one before" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("split", "polling"), "is no split"),
        (("split", "polling=ten"), "is no split"),
        (("split", "pigeon=10"), "no backend 'pigeon'"),
        (("split", "polling=120"), "at most 100"),
        (("split", "pubsub=10"), "is the default"),
        (("target", "eve", "pigeon"), "no backend 'pigeon'"),
    ],
)
async def test_what_can_not_be_is_refused(system: Stack, arguments: tuple[str, ...], why: str) -> None:
    """With what can, and exit code 2."""
    refused = streamgauge(system, "flag", *arguments)
    assert refused.returncode == REFUSED
    assert why in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_rollback_waits_for_what_still_streams(client: Client, system: Stack) -> None:
    """`--drain` says how much that is; when the time is up the flag is back all the same."""
    live = await client.post("ttft=0.02&gap=0.05&chunks=250", backend="pubsub")
    viewing = asyncio.create_task(client.whole(live.task_id))
    hasty = await asyncio.to_thread(streamgauge, system, "rollback", "--drain", "--within", "0.1")
    assert hasty.returncode == NOT_DRAINED
    assert "Live streams: 1 in pubsub." in hasty.stdout
    assert "Still streaming after 0.1 s: 1 in pubsub. New messages go to polling all the same." in hasty.stdout
    assert (await client.answer(await client.post(backend="pubsub")))["backend"] == "polling"
    patient = await asyncio.to_thread(streamgauge, system, "rollback", "--drain", "--within", "30")
    assert patient.returncode == DONE, patient.stdout
    assert "Nothing streams elsewhere than in polling any more." in patient.stdout
    assert (await viewing)[-1].record["chunk_type"] == "done"
    assert (await client.answer(live))["backend"] == "pubsub"


async def test_a_forced_rollback_moves_what_streams(client: Client, system: Stack) -> None:
    """And waits until it has moved."""
    live = await client.post("ttft=0.02&gap=0.05&chunks=150", backend="pubsub")
    viewing = asyncio.create_task(client.whole(live.task_id))
    forced = await asyncio.to_thread(streamgauge, system, "rollback", "--force", "--within", "30")
    assert forced.returncode == DONE, forced.stdout
    assert not viewing.done(), "it was in the middle of it"
    assert "handed over to polling" in forced.stdout
    events = await viewing
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert (await client.answer(live))["backend"] == "polling"
