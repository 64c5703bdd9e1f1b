"""The faults, small: a few streams on each backend, on a system of their own. `streamgauge chaos` runs them large."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.streaming.backends import NAMES
from ops.chaos import run
from ops.chaos.crowd import Crowd
from ops.chaos.run import Plan, run_chaos
from ops.chaos.scenarios import ALL, Scenario
from ops.stack import Stack, StackOptions, running_stack

SHORT_ANSWER = "ttft=0.05&gap=0.15&chunks=50"
"""Seven seconds: every fault that is tried here falls into them."""
FASTER = {
    "STREAMGAUGE_WORKER_VISIBILITY_S": "2",
    "STREAMGAUGE_API_DRAIN_S": "1",
    "STREAMGAUGE_ALLOWED_MODELS": "scripted*",
}
BY_NAME = {each.name: replace(each, script=SHORT_ANSWER) for each in ALL}
STREAMS = 2
pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def suffering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two workers, two APIs, and a broker of its own, so that chunk store and queue can be lost apart."""
    options = StackOptions(
        tmp_path_factory.mktemp("chaos"),
        workers=2,
        apis=2,
        port=0,
        keep_data=False,
        own_broker=True,
        environment={**os.environ, **FASTER},
    )
    with running_stack(options) as stack, pytest.MonkeyPatch.context() as patched:
        patched.setattr(run, "SETTLERS", STREAMS)
        patched.setattr(run, "TRICKLE_S", 2.0)
        yield stack


@pytest.mark.parametrize("name", ["both-kill", "worker-kill", "api-roll", "postgres-kill", "client-churn"])
def test_a_fault_costs_no_stream_and_no_chunk(suffering: Stack, name: str) -> None:
    """Every stream that ran, and every one posted meanwhile, comes whole to its viewer, no chunk twice."""
    heard = list[str]()
    scenario: Scenario = BY_NAME[name]
    plan = Plan([scenario], NAMES, default_backend="pubsub", streams=STREAMS)
    cells = run_chaos(suffering, plan, heard.append, lambda _cell: None)
    assert [(cell.fault, cell.backend) for cell in cells] == [(name, backend) for backend in NAMES]
    for cell in cells:
        assert cell.complaints == ()
        assert cell.is_whole
        assert cell.live >= STREAMS, "a busy machine may have taken a second round to have them at once"
        assert cell.lost == 0
        assert cell.intact == cell.streams > STREAMS
    assert sum(cell.recovered for cell in cells) >= STREAMS, "a fault that nobody felt proves nothing"
    assert any(scenario.what in line for line in heard)


def test_streams_that_end_too_early_are_replaced(suffering: Stack) -> None:
    """A machine that is too slow to begin all of them within the length of an answer gets there in the end."""

    async def live() -> dict[str, int]:
        async with Crowd.gather(suffering.api_urls, "pubsub", 60) as crowd:
            await crowd.fill(NAMES, STREAMS, "ttft=0&gap=0&chunks=2", None)
            await crowd.disperse()
            await crowd.fill_up(NAMES, STREAMS, SHORT_ANSWER, None, 60)
            assert crowd.live() >= STREAMS * len(NAMES)
            return Counter(told.backend for told in crowd.streams if told.was_live)

    assert all(count >= STREAMS for count in asyncio.run(live()).values())


def test_streams_that_can_not_run_are_given_up(suffering: Stack) -> None:
    """It goes on beginning them, and not for ever."""

    async def begun() -> int:
        async with Crowd.gather(suffering.api_urls, "pubsub", 60) as crowd:
            with pytest.raises(TimeoutError):
                await crowd.fill_up(["pubsub"], 1, "fault=refuse", None, 5)
            return len(crowd.streams)

    assert asyncio.run(begun()) > 1


def test_every_fault_says_what_it_is() -> None:
    """`streamgauge chaos --list` names each once, in a sentence."""
    assert len({each.name for each in ALL}) == len(ALL)
    assert all(each.what.endswith(".") and each.endings for each in ALL)


def test_the_stacks_logs_stay(suffering: Stack) -> None:
    """Whoever has to explain a lost stream finds each part's words in its own file."""
    assert {"api-1.log", "api-2.log", "worker-1.log", "worker-2.log", "broker.log"} <= {
        path.name for path in Path(suffering.logs).iterdir()
    }
