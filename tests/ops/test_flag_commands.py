"""`streamgauge flag` and `streamgauge rollback`: what they say beforehand, what they do, and what they refuse."""

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from app.database import Database, translated_errors
from app.flag_records import FlagRecords
from app.streaming.backends import NAMES
from app.streaming.flag_document import Rules, document_of
from ops.flag_access import recorded
from ops.processes import StackError
from ops.stack import Stack
from tests.support.client import Client
from tests.support.command import Said, streamgauge_here
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
DONE, REFUSED, NOT_DRAINED = 0, 2, 3


@pytest.fixture(scope="module", autouse=True)
def alone(system: Stack) -> None:
    """Nobody else has a flag set, or a message that still waits for its answer."""
    asyncio.run(
        forget(system, "DELETE FROM flag_document; UPDATE message SET status = 'failed' WHERE status = 'pending'")
    )


@pytest.fixture(autouse=True)
async def forgotten(system: Stack) -> AsyncIterator[None]:
    """The flag forgets what a test told it, in every process."""
    yield
    await forget(system, "DELETE FROM flag_document")


async def forget(system: Stack, statements: str) -> None:
    async with Database.connect(system.database_url, 1) as database, database.driver() as connection:
        await connection.execute(statements)
    async with httpx2.AsyncClient() as http:

        async def have_forgotten() -> bool:
            pages = [await http.get(url) for url in (f"{system.api_url}/metrics", *system.worker_metrics_urls)]
            return all("streamgauge_flag_generation 0.0" in page.text for page in pages)

        await until_awaited(have_forgotten, "every process follows")


async def streamgauge(system: Stack, *arguments: str) -> Said:
    """A command on this system, in a thread: it has a loop of its own."""
    environment = {**system.environment(), "COLUMNS": "160"}
    return await asyncio.to_thread(streamgauge_here, *arguments, folder=system.logs, **environment)


async def test_changes_are_shown_made_and_written_down(system: Stack) -> None:
    """A dry run says the same and changes nothing; each change says how to undo it; the history vouches for itself."""
    planned = await streamgauge(system, "flag", "split", "polling=10", "--dry-run")
    assert "pubsub 100 % → pubsub 90 %, polling 10 %." in planned.stdout
    assert "Nothing was changed" in planned.stdout
    assert "no document is set" in (await streamgauge(system, "flag", "show")).stdout
    made = await streamgauge(system, "flag", "split", "polling=10", "--by", "ada", "--reason", "a [tenth]")
    assert made.returncode == DONE, made.stderr
    assert "Undo: streamgauge flag set pubsub" in made.stdout
    assert (await streamgauge(system, "flag", "target", "eve", "notify", "--by", "bob")).returncode == DONE
    assert (
        "new messages go to pubsub 90 %, polling 10 %, eve: notify."
        in (await streamgauge(system, "flag", "show")).stdout
    )
    told = await streamgauge(system, "flag", "history")
    assert told.returncode == DONE
    assert "a [tenth]" in told.stdout
    assert "Each entry follows from the one before." in told.stdout


async def test_each_undo_brings_back_what_was_in_force(system: Stack) -> None:
    """Also a user's target, a share, and a flag that was switched off: the commands are run as they are shown."""

    async def in_force() -> str:
        return (await streamgauge(system, "flag", "show")).stdout.partition("new messages go to ")[2].partition("\n")[0]

    assert (await streamgauge(system, "flag", "set", "polling")).returncode == DONE
    changes = (
        ("flag", "target", "eve o'hara", "notify"),
        ("flag", "split", "pubsub=10"),
        ("flag", "set", "streams"),
        ("rollback",),
        ("flag", "set", "pubsub"),
    )
    for change in changes:
        before = await in_force()
        made = await streamgauge(system, *change)
        assert made.returncode == DONE, made.stderr
        assert await in_force() != before
        for command in made.stdout.partition("Undo: ")[2].strip().split(" && "):
            undone = await streamgauge(system, *shlex.split(command)[1:])
            assert undone.returncode == DONE, undone.stderr
        assert await in_force() == before, made.stdout
        assert (await streamgauge(system, *change)).returncode == DONE
    again = await streamgauge(system, "flag", "set", "pubsub")
    assert "Undo" not in again.stdout, "there is nothing to undo"


async def test_of_two_who_change_it_at_once_one_is_told(system: Stack) -> None:
    """`--expected` is the generation that `flag show` said; whoever comes second changes nothing, and is told so."""
    assert "Generation 0" in (await streamgauge(system, "flag", "show")).stdout
    assert (await streamgauge(system, "flag", "set", "notify", "--expected", "0")).returncode == DONE
    generation = (await streamgauge(system, "flag", "show")).stdout.removeprefix("Generation ").partition(":")[0]
    for late in (
        ("flag", "set", "streams"),
        ("flag", "split", "polling=5"),
        ("flag", "target", "a", "polling"),
        ("rollback",),
    ):
        refused = await streamgauge(system, *late, "--expected", "0")
        assert refused.returncode == 1
        assert f"The flag is at generation {generation} by now" in refused.stderr


async def test_what_is_so_already_makes_no_generation(system: Stack) -> None:
    """And the command says so; without a document there is none to keep a user out of."""
    nobody = ("flag", "target", "nobody", "none")
    assert "Nothing was changed: generation 0 says that already." in (await streamgauge(system, *nobody)).stdout
    for change in (("flag", "set", "pubsub"), ("flag", "split", "notify=10"), ("rollback", "--force"), ("rollback",)):
        assert "is in force" in (await streamgauge(system, *change)).stdout
        assert "says that already" in (await streamgauge(system, *change)).stdout
        assert "says that already" in (await streamgauge(system, *nobody)).stdout


async def test_the_undo_of_a_rollback_never_moves_live_streams(system: Stack) -> None:
    """After a forced one there is nothing to take back but the force; then a plain one brings the flag back to off."""
    await streamgauge(system, "rollback", "--force")
    assert (
        "new messages go to polling alone, live streams as well." in (await streamgauge(system, "flag", "show")).stdout
    )
    assert "Undo" not in (await streamgauge(system, "rollback")).stdout
    await streamgauge(system, "rollback", "--force")
    assert (await streamgauge(system, "flag", "set", "notify")).stdout.endswith("Undo: streamgauge rollback\n")


async def test_old_records_are_shown_safely(system: Stack) -> None:
    """What was written before it was refused acts on nobody's terminal."""
    async with Database.connect(system.database_url, 1) as database:
        document = document_of(Rules("pubsub", users={"a\x9b2J": "notify"}), NAMES)
        await FlagRecords(database).add(document, by="eve\x1b[2J", reason="a\nb")
    for command in ("show", "history"):
        told = (await streamgauge(system, "flag", command)).stdout
        assert "a\\u009b2J: notify" in told
        assert not {"\x1b", "\x9b"} & set(told)
    assert "eve\\u001b[2J" in told
    assert "a\\u000ab" in told


async def test_a_rollout_that_sees_nothing_does_not_begin(system: Stack, tmp_path: Path) -> None:
    """Nothing is moved before its figures could be read once."""
    for blind in (("--metrics", "http://127.0.0.1:1/metrics"), ("--prometheus", "http://127.0.0.1:1")):
        refused = await streamgauge(system, "rollout", "polling", *blind, "--folder", str(tmp_path))
        assert refused.returncode == REFUSED
        assert "The flag was not moved: start what did not answer" in refused.stderr
    assert "Generation 0" in (await streamgauge(system, "flag", "show")).stdout
    assert not (tmp_path / "rollout" / "state.json").exists()


async def test_a_lock_is_not_taken_for_a_wrong_address(system: Stack) -> None:
    """Who wants to go back, and gets no answer in time, is not sent to look at DATABASE_URL, which is right."""

    async def ask(_records: FlagRecords) -> None:
        with translated_errors():
            raise TimeoutError

    with pytest.raises(StackError, match="somebody holds a lock that this waits for: `streamgauge doctor` says which"):
        await asyncio.to_thread(recorded, system.database_url, ask)


async def test_a_history_that_was_tampered_with_is_exit_code_1(system: Stack) -> None:
    """And names the generation."""
    for share in ("5", "10"):
        await streamgauge(system, "flag", "split", f"polling={share}", "--by", "ada")
    async with Database.connect(system.database_url, 1) as database, database.driver() as connection:
        await connection.execute("UPDATE flag_document SET changed_by = 'eve'")
    told = await streamgauge(system, "flag", "history")
    assert told.returncode == 1
    assert "does not follow from the one before" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("split", "polling"), "is no split"),
        (("split", "polling=ten"), "is no split"),
        (("split", "pigeon=10"), "no backend 'pigeon'"),
        (("split", "polling=120"), "polling can't get 120 %"),
        (("split", "polling=10,polling=20"), "names a backend twice"),
        (("split", "pubsub=10"), "is the default"),
        (("target", "eve", "pigeon"), "no backend 'pigeon'"),
        (("target", "", "notify"), "A user's name is empty"),
        (("set", "notify", "--by", ""), "by) is empty"),
        (("set", "notify", "--reason", "\x1b[2J"), "control character \\u001b"),
    ],
)
async def test_what_can_not_be_is_refused(system: Stack, arguments: tuple[str, ...], why: str) -> None:
    """With what can, and exit code 2."""
    refused = await streamgauge(system, "flag", *arguments)
    assert refused.returncode == REFUSED
    assert why in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_a_rollback_waits_for_what_still_streams(client: Client, system: Stack) -> None:
    """`--drain` says how much that is; when the time is up the flag is back all the same."""
    live = await client.post("ttft=0.02&gap=0.05&chunks=120", backend="pubsub")
    viewing = asyncio.create_task(client.whole(live.task_id))
    hasty = await streamgauge(system, "rollback", "--drain", "--within", "0.1")
    assert hasty.returncode == NOT_DRAINED
    assert "Live streams: 1 in pubsub." in hasty.stdout
    assert "Still streaming after 0.1 s: 1 in pubsub. New messages go to polling all the same." in " ".join(
        hasty.stdout.split()
    )
    assert (await client.answer(await client.post(backend="pubsub")))["backend"] == "polling"
    patient = await streamgauge(system, "rollback", "--drain", "--within", "30")
    assert patient.returncode == DONE, patient.stdout
    assert "Nothing streams elsewhere than in polling any more." in patient.stdout
    assert (await viewing)[-1].record["chunk_type"] == "done"
    assert (await client.answer(live))["backend"] == "pubsub"


async def test_a_forced_rollback_moves_what_streams(client: Client, system: Stack) -> None:
    """And waits until it has moved."""
    live = await client.post("ttft=0.02&gap=0.05&chunks=100", backend="pubsub")
    viewing = asyncio.create_task(client.whole(live.task_id))
    forced = await streamgauge(system, "rollback", "--force", "--within", "30")
    assert forced.returncode == DONE, forced.stdout
    assert not viewing.done(), "it was in the middle of it"
    assert "handed over to polling" in forced.stdout
    events = await viewing
    assert [event.record["chunk_index"] for event in events] == list(range(len(events)))
    assert (await client.answer(live))["backend"] == "polling"
