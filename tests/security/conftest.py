"""An API with keys, on the servers of the running system."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import pytest

from app.api.access import digest_of
from app.settings import Settings
from ops.stack import Stack
from tests.support.client import Client
from tests.support.serving import serving

KEYS = {"ada": "the-key-of-ada", "eve": "the-key-of-eve"}
METRICS_TOKEN = "the-token-of-the-scraper"
MOST_STREAMS, A_MINUTE = 3, 20


@dataclass(frozen=True)
class Guarded:
    """The API as two owners and somebody without a key use it."""

    ada: Client
    eve: Client
    nobody: Client


@pytest.fixture
def guarded_settings(system: Stack) -> Settings:
    """Both have a key; the numbers that they may have are small."""
    return Settings(
        redis_url=system.redis_url,
        broker_url=system.broker_url,
        database_url=system.database_url,
        openai_base_url=system.openai_base_url,
        openai_model="scripted",
        allowed_models=("*",),
        tidy_every_s=3600,
        api_keys={digest_of(key): name for name, key in KEYS.items()},
        metrics_token=METRICS_TOKEN,
        owner_streams=MOST_STREAMS,
        owner_messages_per_minute=A_MINUTE,
        request_timeout_s=1,
        api_drain_s=0.2,
    )


@pytest.fixture
async def guarded(guarded_settings: Settings) -> AsyncIterator[Guarded]:
    """An API of the test's own process; the running system's worker answers."""
    async with serving(guarded_settings) as nobody, as_owner(nobody, "ada") as ada, as_owner(nobody, "eve") as eve:
        yield Guarded(ada, eve, nobody)


@contextlib.asynccontextmanager
async def as_owner(client: Client, name: str) -> AsyncIterator[Client]:
    """Use the same API with an owner's key."""
    headers = {"Authorization": f"Bearer {KEYS[name]}"}
    async with httpx2.AsyncClient(base_url=client.http.base_url, timeout=30, headers=headers) as http:
        yield Client(http)
