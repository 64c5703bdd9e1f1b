"""Health, readiness, the clock and the metrics."""

import asyncio
from collections.abc import Awaitable
from time import time_ns
from uuid import UUID

from fastapi import APIRouter, Request, Response
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel

from app.api.access import Scraper
from app.api.dependencies import Open
from app.broker import BrokerUnavailableError
from app.database import DatabaseUnavailableError
from app.streaming.contract import StoreUnavailableError

router = APIRouter(tags=["operations"])

CHECK_S = 3.0
NOBODY = UUID(int=0)


class Health(BaseModel):
    """This process is alive."""

    status: str = "ok"


class Dependency(BaseModel):
    """One server that messages need."""

    ok: bool
    detail: str | None = None


class Readiness(BaseModel):
    """Whether messages can be served, and what is missing if not."""

    status: str
    dependencies: dict[str, Dependency]


class Clock(BaseModel):
    """This host's wall clock in ns, when the request came and when the answer left: one NTP-style sample."""

    received_ns: int
    sent_ns: int


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health() -> Health:
    """Answer as long as this process lives."""
    return Health()


@router.head("/ready", include_in_schema=False)
@router.get("/ready", responses={503: {"model": Readiness}})
async def ready(services: Open, response: Response) -> Readiness:
    """Ask each dependency by name; 503 when one is missing."""
    store = services.backends.readers["pubsub"].status(NOBODY)
    checks = {"database": services.database.ping(), "store": store, "broker": services.queue.ping()}
    found = await asyncio.gather(*(_check(check) for check in checks.values()))
    dependencies = dict(zip(checks, found, strict=True))
    well = all(dependency.ok for dependency in found) and not services.drain.has_begun
    response.status_code = 200 if well else 503
    status = "draining" if services.drain.has_begun else "ready" if well else "unavailable"
    return Readiness(status=status, dependencies=dependencies)


async def _check(check: Awaitable[object]) -> Dependency:
    try:
        await asyncio.wait_for(check, CHECK_S)
    except TimeoutError:
        return Dependency(ok=False, detail=f"no answer within {CHECK_S:.0f} s")
    except (DatabaseUnavailableError, StoreUnavailableError, BrokerUnavailableError) as error:
        return Dependency(ok=False, detail=str(error)[:300])
    return Dependency(ok=True)


@router.head("/clock", include_in_schema=False)
@router.get("/clock")
async def clock() -> Clock:
    """Tell the wall clock, for measuring the offset between hosts."""
    return Clock(received_ns=time_ns(), sent_ns=time_ns())


@router.head("/metrics", include_in_schema=False, dependencies=[Scraper])
@router.get("/metrics", response_class=Response, dependencies=[Scraper])
async def metrics(request: Request) -> Response:
    """Expose this process's metrics, in OpenMetrics if the scraper accepts it."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(REGISTRY), media_type=content_type)
