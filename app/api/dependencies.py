"""What routes need, as this process holds it open."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Header, Request
from pydantic import BeforeValidator

from app.api.limits import Limits
from app.broker import Queue
from app.database import Database
from app.delivery import Delivery
from app.draining import Drain
from app.flag_records import FlagRecords
from app.flag_words import MOST_USER
from app.flags import Flags
from app.records import Records
from app.rollout_record import RolloutRecord
from app.settings import Settings
from app.streaming.flag import BackendFlag
from app.streaming.health import StoreHealth
from app.streaming.pairs import Backends

BACKEND_HEADER = "X-Streamgauge-Backend"
"""In a request it forces a message's backend; in an answer it tells the one that the stream is pinned to."""


def _as_utf8(header: str) -> str:
    """Read a header as the UTF-8 that clients send; one that is none stays what the server made of it, Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


UserHeader = Annotated[str, BeforeValidator(_as_utf8), Header(alias="X-Streamgauge-User", max_length=MOST_USER)]
"""Who asks, as the flag's targets name them."""


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
    rollout_record: RolloutRecord
    queue: Queue
    health: StoreHealth
    drain: Drain
    limits: Limits


async def _services(request: Request) -> Services:  # a plain function would pass through a thread, at every request
    return cast("Services", request.app.state.services)


Open = Annotated[Services, Depends(_services)]
