"""A healthy system that faults are planted on, and what the doctor examines it by."""

import os
from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx2
import pytest

from app.settings import Settings
from ops.doctor import canary
from ops.stack import Stack, StackOptions, running_stack
from tests.app.test_away import settings_of


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy system as production should be: two workers, and a broker of its own that keeps its queue."""
    folder = tmp_path_factory.mktemp("stack")
    options = StackOptions(folder, workers=2, port=0, keep_data=False, own_broker=True, environment=dict(os.environ))
    with running_stack(options) as running:
        yield running


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return settings_of(stack, broker_url=stack.broker_url, openai_api_key="scripted")


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=15) as client:
        yield client


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stack.database_url)
    yield connection
    await connection.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A doctor that waits less for its canary."""
    monkeypatch.setattr(canary, "PATIENCE_S", 2.0)
