"""Builds the Celery worker: one task, which answers one message. Run it with `celery -A app.worker worker`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from itertools import product
from math import inf
from time import time_ns
from typing import Any
from uuid import UUID

from celery.signals import celeryd_init, setup_logging
from prometheus_client import start_http_server

from app import pool
from app.broker import TASK, make_celery
from app.database import Database, DatabaseUnavailableError
from app.flag_records import FlagRecords
from app.garbage import settle
from app.generation import Services, generate
from app.leaving import Leaving
from app.llm import Model
from app.pool.loop import Watch
from app.records import Records
from app.settings import load_settings
from app.streaming.backends import NAMES
from app.streaming.contract import StoreUnavailableError
from app.streaming.pairs import open_backends
from app.telemetry import logs, metrics
from app.telemetry.tracing import tracing
from app.watching import watch_flag

settings = load_settings()
_services: ContextVar[Services] = ContextVar("worker_services")


@contextlib.asynccontextmanager
async def open_services() -> AsyncIterator[None]:
    """Own everything that a worker process holds open, and let every task see it."""
    with _metrics_server(), tracing(settings, "worker"):
        async with (
            Database.connect(
                settings.database_url,
                settings.database_pool,
                settings.lost_s,
                pooler=settings.database_pooler,
                busy_s=inf,  # a task that waits is as well off as its message was in the queue
            ) as database,
            open_backends(settings, database) as backends,
            Model.connect(
                base_url=settings.openai_base_url,
                api_key=settings.openai_api_key,
                connect_s=settings.model_connect_s,
                stall_s=settings.model_stall_s,
            ) as model,
        ):
            metrics.WORKER_SLOTS.set(settings.worker_concurrency)
            for backend, reason in product(NAMES, metrics.HandOver):
                # A series that begins with its first event shows Prometheus no growth: StoreLost would miss it.
                metrics.HANDOVERS.labels(backend, reason)
            leaving = Leaving()
            _services.set(Services(settings, Records(database), backends, model, leaving))
            following = asyncio.create_task(watch_flag(FlagRecords(database), leaving))
            settle()
            try:
                yield
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


@contextlib.contextmanager
def _metrics_server() -> Iterator[None]:
    if not settings.worker_metrics_port:
        yield
        return
    server, thread = start_http_server(settings.worker_metrics_port, settings.worker_metrics_host)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@celeryd_init.connect  # type: ignore[untyped-decorator]  # Celery publishes no types
def _configure_logs(instance: Any, **_: Any) -> None:
    """Log our way from a worker's first word on; its banner is for people."""
    logs.configure(settings)
    instance.quiet = instance.quiet or not logs.is_for_people(settings)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _keep_logs(**_: Any) -> None:
    """Keep Celery from setting up its own: it asks whether anybody listens."""


celery_app = make_celery(settings.broker_url)
pool.configure(
    celery_app,
    lifespan=open_services,
    concurrency=settings.worker_concurrency,
    visibility_timeout_s=settings.worker_visibility_s,
    drain_s=settings.worker_drain_s,
    watch=Watch(report=metrics.WORKER_LOOP_LAG_SECONDS.set),
)


@celery_app.task(  # type: ignore[untyped-decorator]  # Celery publishes no types
    name=TASK,
    autoretry_for=(DatabaseUnavailableError, StoreUnavailableError),
    retry_backoff=1,
    retry_backoff_max=10,
    max_retries=10,
)
@pool.coroutine_task
async def answer_message(task_id: str) -> None:
    """Answer one message; harmless to run again."""
    # As one asyncio task: else each of its awaits, several a chunk, would pass through the pool's greenlet.
    await asyncio.create_task(generate(_services.get(), UUID(task_id), time_ns()))
