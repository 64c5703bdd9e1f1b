"""Celery's broker: the queue, and what a server of its job needs besides."""

from typing import Any
from urllib.parse import urlsplit

from app.broker import make_celery
from app.sentinel_url import Sentinels
from app.settings import Settings
from ops.doctor.connection import AWAY, connected, unreachable
from ops.doctor.finding import Finding, Findings, error, note, warning, well
from ops.doctor.sentinels import examine_sentinels
from ops.doctor.server import examine_server

NAME, VARIABLE = "broker", "BROKER_URL"
PORT = 6379
DEEP = 50
"""The alert QueueBacksUp begins here as well."""


async def examine_broker(settings: Settings) -> Findings:
    """Examine the server that BROKER_URL names; one that is the chunk store too has been examined as that."""
    try:
        async with connected(settings.broker_url) as client:
            await client.ping()
            yield well(f"{NAME}.connection", "answers")
            if settings.broker_url != settings.redis_url:
                async for finding in examine_sentinels(NAME, settings.broker_url):
                    yield finding
                async for finding in examine_server(NAME, client):
                    yield finding
            yield _own_server(settings)
            yield await _single(client)
            yield await _persistence(client)
            yield await _depth(settings, client)
    except AWAY as cause:
        yield unreachable(NAME, VARIABLE, cause)


def _own_server(settings: Settings) -> Finding:
    """Say what the loss of one server costs. Databases of one server count as one: they go together."""
    place = _place_of(settings.broker_url)
    if place != _place_of(settings.redis_url):
        return well(f"{NAME}.own", "is a server of its own")
    return note(
        f"{NAME}.own",
        "is the chunk store too: while it is away, new messages are answered 503",
        f"REDIS_URL and BROKER_URL both name {place}",
        "Set BROKER_URL to a server of its own: then the loss of the store refuses no message; they go to polling.",
    )


def _place_of(url: str) -> str:
    """Name the server that a URL leads to, without its password and database."""
    if sentinels := Sentinels.of(url):
        return f"{sentinels.master!r} of the sentinels {sentinels.shown}"
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or PORT}" if parts.hostname else parts.path


async def _single(client: Any) -> Finding:
    if (await client.info("cluster")).get("cluster_enabled"):
        return error(
            f"{NAME}.cluster",
            "is a cluster, which Celery can't use",
            "cluster_enabled 1",
            "Set BROKER_URL to a single server beside the cluster.",
        )
    return well(f"{NAME}.cluster", "is a single server")


async def _persistence(client: Any) -> Finding:
    """Say what a restart of the broker costs. The repair enqueues such messages again, so nothing is lost for good."""
    info = await client.info("persistence")
    if int(info.get("aof_enabled", 0)):
        return well(f"{NAME}.persistence", "keeps the queue on disk")
    return note(
        f"{NAME}.persistence",
        "forgets the queue when it restarts",
        "aof_enabled 0",
        "APIs enqueue again what was lost, after some seconds; `appendonly yes` on a broker of its own keeps it.",
    )


async def _depth(settings: Settings, client: Any) -> Finding:
    with make_celery(settings.broker_url) as celery:
        name = celery.conf.task_default_queue
    waiting = int(await client.llen(name))
    if waiting > DEEP:
        return warning(
            f"{NAME}.queue",
            f"{waiting} messages wait for a worker",
            f"LLEN {name} is {waiting}",
            "Start more workers, or see below why those there are do not take them.",
        )
    return well(f"{NAME}.queue", f"{waiting} messages wait for a worker")
