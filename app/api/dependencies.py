"""What routes need, as this process holds it open."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from app.broker import Queue
from app.database import Database
from app.delivery import Delivery
from app.draining import Drain
from app.flag_records import FlagRecords
from app.flags import Flags
from app.records import Records
from app.settings import Settings
from app.streaming.backends import Backends
from app.streaming.flag import BackendFlag
from app.streaming.health import StoreHealth

BACKEND_HEADER = "X-Streamgauge-Backend"
"""In a request it forces a message's backend; in an answer it tells the one that the stream is pinned to."""


@dataclass(frozen=True, slots=True)
class Services:
    """The open servers and connections of an API process."""

    settings: Settings
    database: Database
    records: Records
    backends: Backends
    delivery: Delivery
    flag: BackendFlag
    flags: Flags
    flag_records: FlagRecords
    queue: Queue
    health: StoreHealth
    drain: Drain


async def _services(request: Request) -> Services:  # a plain function would pass through a thread, at every request
    return cast("Services", request.app.state.services)


Open = Annotated[Services, Depends(_services)]
