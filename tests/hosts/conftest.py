"""Several hosts on one machine, where that can be had: on Linux, as root, with iproute2's `ip`."""

import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.hosts.network import Host, network
from tests.hosts.streams import is_whole, posted_to, reaching, watch
from tests.hosts.system import System, running_system
from tests.support.client import Client

ROOT_WANTED = (
    "streams over several hosts were not tried: run `python -m pytest tests/hosts` as root on Linux, "
    "which may make network namespaces (in a container: --privileged)"
)
IP_WANTED = "streams over several hosts were not tried: `ip` is missing, `apt-get install iproute2`"
SHORT_CHUNKS = 3
SHORT = f"ttft=0&gap=0&chunks={SHORT_CHUNKS}"
SILENCE_S = 10.0
"""Longer than any cut here: these viewers keep their connections."""


@pytest.fixture(scope="session")
def may_make_hosts() -> None:
    """Skip with a reason where hosts can't be made; with CI=true and root they have to be."""
    is_root = sys.platform == "linux" and os.geteuid() == 0
    if not is_root:
        pytest.skip(ROOT_WANTED)
    must = os.environ.get("CI", "").lower() in {"1", "true"}
    if shutil.which("ip") is None:
        pytest.fail(IP_WANTED) if must else pytest.skip(IP_WANTED)
    try:
        with network("probe"):
            pass
    except OSError as error:
        pytest.fail(f"{ROOT_WANTED}: {error}") if must else pytest.skip(f"{ROOT_WANTED}: {error}")


@pytest.fixture(scope="module")
def hosts(may_make_hosts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The system, each part on a host of its own."""
    with running_system(tmp_path_factory.mktemp("hosts")) as system:
        yield system


@pytest.fixture
def viewers(hosts: System) -> Iterator[Host]:
    """The host on which the test is."""
    with hosts.host("viewers").inside():
        yield hosts.host("viewers")


@pytest.fixture
async def at(hosts: System, viewers: Host) -> AsyncIterator[dict[str, Client]]:
    """A viewer of each API, by the name of its host."""
    async with reaching(hosts, SILENCE_S) as clients:
        yield clients


@pytest.fixture
async def all_is_as_before(hosts: System, at: dict[str, Client]) -> AsyncIterator[None]:
    """Whatever a test has cut, afterwards new messages flow from each API over each worker to viewers at the other."""
    yield
    for worker, poster, viewer in (("worker-a", "api-a", "api-b"), ("worker-b", "api-b", "api-a")):
        posted = await posted_to(hosts, at[poster], worker, SHORT)
        events = await watch([at[viewer]], posted.task_id)
        assert is_whole(events, SHORT_CHUNKS)
        assert {event.record["attempt"] for event in events} == {1}
