"""Our own tools where keys are set: each sends one, or says which variable holds it."""

import io
from pathlib import Path

import anyio.to_thread
import pytest
from rich.console import Console

from app.settings import Settings
from loadtest import plan, recorder
from loadtest.counters import Meter
from loadtest.key import VARIABLE
from loadtest.plan import Arrival, Block, Plan
from loadtest.run import play
from loadtest.target import BenchError, check_target
from loadtest.viewers import Viewer, Watching
from ops.doctor.examination import Subject, examine
from ops.rollout.sources import SourceError, metrics_of
from ops.stack import Stack, StackOptions
from ops.supervisor import Supervisor
from tests.ops.doctor.findings import by_check
from tests.security.conftest import KEYS, METRICS_TOKEN, Guarded

pytestmark = pytest.mark.anyio
TOKEN = "STREAMGAUGE_METRICS_TOKEN"


def url_of(guarded: Guarded) -> str:
    return str(guarded.nobody.http.base_url).rstrip("/")


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEYS["ada"])
    monkeypatch.setenv(TOKEN, METRICS_TOKEN)


async def test_the_doctor_follows_a_message_with_a_key(
    guarded: Guarded, guarded_settings: Settings, with_key: None
) -> None:
    """Through all hops, and reads the metrics by their token."""
    api = url_of(guarded)
    found = {finding.check: finding for finding in await examine(Subject(guarded_settings, (api,)))}
    assert found[f"canary {api}"].is_well, found[f"canary {api}"]
    assert {"api 1 loop", "api 1 files"} <= set(found)
    assert "api 1 metrics" not in found


async def test_the_doctor_says_what_it_lacks(guarded: Guarded, guarded_settings: Settings) -> None:
    """A key and a token, by the names of their variables."""
    api = url_of(guarded)
    without = guarded_settings.model_copy(update={"metrics_token": ""})
    found = by_check(await examine(Subject(without, (api,))))
    assert VARIABLE in found[f"canary {api}"].fix
    assert TOKEN in found["api 1 metrics"].fix


async def test_a_rollout_reads_metrics_by_their_token(
    guarded: Guarded, with_key: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without it says who refused."""
    read = metrics_of([f"{url_of(guarded)}/metrics"])
    assert await anyio.to_thread.run_sync(read)
    monkeypatch.delenv(TOKEN)
    with pytest.raises(SourceError, match="401"):
        await anyio.to_thread.run_sync(read)


async def test_a_load_test_sends_its_key(
    guarded: Guarded, with_key: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """To begin, ask, watch and cancel, and to see what was committed; without a key it does not begin."""
    url, model = url_of(guarded), "scripted?ttft=0.05&gap=0.02&chunks=20"
    watchings = (Watching((Viewer(),)), Watching((Viewer(),), cancel_after=3))
    arrivals = tuple(Arrival(0.0, "pubsub", model, None, "hello", 20, True, each) for each in watchings)
    made = Plan(1, 20.0, (Block(0, "pubsub", 0, 1, arrivals),))
    plan.save(made, tmp_path / "plan.json")

    def load() -> None:
        check_target(url)
        with Meter(None, None, lambda: 0) as meter:
            play(made, url, tmp_path, meter, Console(file=io.StringIO()))

    await anyio.to_thread.run_sync(load)
    rows = recorder.read_streams(tmp_path / "streams.jsonl")
    assert sorted((row.outcome, row.kinds[-1], row.error) for row in rows) == [
        ("ended", "cancelled", None),
        ("ended", "done", None),
    ]
    assert all(row.committed for row in rows)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(BenchError, match=VARIABLE):
        await anyio.to_thread.run_sync(load)


def test_a_measurements_own_system_asks_for_no_key(tmp_path: Path) -> None:
    """It is on loopback, and what a person has set for the real one is not for it; `up` runs the real one."""
    given = {"STREAMGAUGE_API_KEYS": f"ada:{'0' * 64}", TOKEN: METRICS_TOKEN, "OTHER": "1"}
    with Supervisor(tmp_path) as supervisor:
        for is_up, kept in ((False, {"OTHER"}), (True, set(given))):
            options = StackOptions(tmp_path, environment=given, asks_for_keys=is_up)
            environment = Stack(options, supervisor, lambda _part: None).environment()
            assert given.keys() & environment.keys() == kept
