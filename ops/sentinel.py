"""The server behind sentinels, for those who need one address: tools that count, exporters, Celery's control."""

import asyncio

from redis.exceptions import RedisError

from app.redis_pool import Asking
from app.sentinel_url import Sentinels
from ops.processes import StackError


def server_of(url: str) -> str:
    """Give the URL of the server that sentinels call the master now; a URL that names a server stays as it is.

    Raises `StackError`.
    """
    try:
        sentinels = Sentinels.of(url)
        if sentinels is None:
            return url
        return sentinels.server(*asyncio.run(Asking(sentinels).discover_master(sentinels.master)))
    except (ValueError, RedisError) as error:
        raise StackError(f"The sentinels of a URL lead nowhere: {error}. Correct the URL, or start them.") from error
