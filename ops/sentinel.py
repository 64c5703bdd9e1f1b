"""The server behind sentinels, for those who need one address: tools that count, exporters, Celery's control."""

from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from app.redis_pool import tls_options
from app.sentinel_url import Sentinels
from ops.processes import StackError


def server_of(url: str) -> str:
    """Give the URL of the server that sentinels call the master now; a URL that names a server stays as it is.

    Raises `StackError`.
    """
    try:
        sentinels = Sentinels.of(url)
    except ValueError as error:
        raise StackError(f"This URL names no sentinels: {error}.") from error
    if sentinels is None:
        return url
    once = {"retry": Retry(NoBackoff(), 0)}
    sentinel: Any = Sentinel  # redis-py has no types here
    asking = sentinel(sentinels.addresses, sentinel_kwargs=sentinels.asking(tls_options(sentinels)) | once)
    try:
        host, port = asking.discover_master(sentinels.master)
    except RedisError as error:
        raise StackError(
            f"No sentinel of {sentinels.shown} names a master {sentinels.master!r} that is up: {error}. "
            "See `SENTINEL MASTERS` there, and correct the URL."
        ) from error
    finally:
        for client in asking.sentinels:
            client.close()
    return sentinels.server(str(host), int(port))
