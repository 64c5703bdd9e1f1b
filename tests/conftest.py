"""Real servers for the whole run, and the checks that no test leaves anything behind."""

import os
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from ops.stack import Stack, StackOptions, running_stack
from tests.support.client import Client
from tests.support.database import migrated_postgres

# A generated example's time on a busy machine says nothing of the code; pytest's own timeout bounds the whole test.
settings.register_profile("streamgauge", deadline=None)
settings.load_profile("streamgauge")


SHARE_A_STACK = ("tests/browser/", "tests/ops/doctor/")
"""Folders whose files are one to the scheduler."""


def shared_folder(nodeid: str) -> str:
    return next((folder for folder in SHARE_A_STACK if nodeid.startswith(folder)), "")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, whole files or folders: the last to begin bounds the end of the run."""

    def turn(item: pytest.Item) -> tuple[bool, str]:
        folder = shared_folder(item.nodeid)
        return not folder and item.get_closest_marker("long") is None, folder

    items.sort(key=turn)


class FilesOfAStack(LoadFileScheduling):  # type: ignore[misc]  # xdist publishes no types
    """Gives a process whole files, and all of a folder whose tests share a stack of their own."""

    def _split_scope(self, nodeid: str) -> str:
        return shared_folder(nodeid) or str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesOfAStack:
    return FilesOfAStack(config, log)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Run async tests on the loop that production runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated database on a real PostgreSQL."""
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system on real servers: an API, a worker, the scripted model, Valkey and PostgreSQL."""
    quick = {
        "STREAMGAUGE_MODEL_STALL_S": "1.5",
        "STREAMGAUGE_MAX_CONTENT_CHARS": "1000",
        "STREAMGAUGE_TIDY_EVERY_S": "3600",  # tests leave unfinished messages behind, and count queries
    }
    options = StackOptions(
        folder=tmp_path_factory.mktemp("stack"),
        port=0,
        keep_data=False,
        traces=True,
        environment=dict(os.environ) | quick,
    )
    with running_stack(options) as stack:
        yield stack


@pytest.fixture
async def client(system: Stack) -> AsyncIterator[Client]:
    """A viewer of the running system."""
    async with httpx2.AsyncClient(base_url=system.api_url, timeout=30) as http:
        yield Client(http)
