"""Builds the web app. Run it with `uvicorn app.main:create_app --factory`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from uuid import UUID

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import access, conversations, cors, flags, operations, page, problems, streams
from app.api.bodies import BodyLimit
from app.api.dependencies import Services
from app.api.limits import Limits
from app.broker import Queue
from app.database import Database, DatabaseError
from app.delivery import Delivery
from app.draining import Drain
from app.flag_records import FlagRecords
from app.flags import Flags
from app.garbage import settle
from app.records import Records
from app.repair import Repair
from app.rollout_record import RolloutRecord
from app.settings import Settings, load_settings
from app.streaming.backends import SAFE, offered
from app.streaming.flag import BackendFlag, load_provider
from app.streaming.health import StoreHealth
from app.streaming.pairs import open_backends
from app.telemetry.tracing import tracing
from app.watching import watch_flag, watch_loop, watch_queue

log = logging.getLogger(__name__)

NOBODY = UUID(int=0)
KEPT = ("type", "extensions", "method", "path", "query_string", "root_path", "http_version", "client")
"""Of a stream's scope: what its server and its log may still ask."""


class App(FastAPI):
    """FastAPI, but for streams: those are served past it, when it has found what to serve."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        later = scope[streams.LATER] = list[ASGIApp]()
        await super().__call__(scope, receive, send)
        if later:  # a stream stays, and what else the scope has grown to need not
            kept = {key: scope[key] for key in KEPT if key in scope}
            scope.clear()  # a dict that only loses keys stays as large as it was
            scope.update(kept)
        for serve in later:
            await serve(scope, receive, send)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the app; its servers are connected when it starts and let go when it stops."""
    settings = settings or load_settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with tracing(settings, "api"):
            async with open_services(settings) as services:
                app.state.services = services
                working = [
                    asyncio.create_task(_tidy(services)),
                    asyncio.create_task(watch_loop()),
                    asyncio.create_task(watch_queue(services.queue)),
                ]
                if services.flag.generation is not None:
                    following = watch_flag(services.flag_records, services.flag)
                    working.append(asyncio.create_task(following))
                settle()
                try:
                    yield
                finally:
                    for task in working:
                        task.cancel()
                    await asyncio.gather(*working, return_exceptions=True)

    app = App(title="streamgauge", lifespan=lifespan, responses=problems.RESPONSES)
    app.add_middleware(BodyLimit, most_bytes=settings.max_body_bytes)
    cors.install(app, settings.cors_origins)  # last, so that refusals of the others can be read as well
    problems.install(app)
    for router in (access.router, conversations.router, streams.router, operations.router, flags.router, page.router):
        app.include_router(router)
    return app


@contextlib.asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Own everything that an API process holds open."""
    async with (
        Database.connect(
            settings.database_url, settings.database_pool, settings.lost_s, pooler=settings.database_pooler
        ) as database,
        open_backends(settings, database) as backends,
        Queue.connect(settings.broker_url) as queue,
        StoreHealth.watch(
            lambda: backends.readers["pubsub"].status(NOBODY), settings.store_patience_s, settings.store_back_s
        ) as health,
    ):
        records, flag_records = Records(database), FlagRecords(database)
        yield Services(
            settings=settings,
            database=database,
            records=records,
            backends=backends,
            delivery=Delivery(settings, records, backends),
            flag=BackendFlag(settings.default_backend, SAFE, offered(settings), load_provider(settings.flag_provider)),
            flags=Flags(flag_records, settings),
            flag_records=flag_records,
            rollout_record=RolloutRecord(database),
            queue=queue,
            health=health,
            drain=Drain(settings.api_drain_s),
            limits=Limits(settings),
        )


async def _tidy(services: Services) -> None:
    """Now and then, end what nobody else ends, and delete the expired logs of `polling` as Valkey does by itself."""
    pause_s = services.settings.tidy_every_s
    repair = Repair(services.settings, services.records, services.backends, services.queue)
    while True:
        await asyncio.sleep(pause_s)
        try:
            repaired = await repair.run()
            deleted = await services.records.delete_expired_chunks(services.settings.chunk_ttl_s)
        except DatabaseError as error:
            log.warning("expired chunks and lost streams wait another %g s: %s", pause_s, error)
        else:
            if deleted or repaired:
                log.info("deleted %d expired chunks; repaired %s", deleted, dict(repaired) or "nothing")
