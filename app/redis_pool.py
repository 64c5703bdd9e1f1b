"""Connections to the server that a URL names, or to the one that sentinels call the master when each is made."""

from typing import Any

from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.utils import str_if_bytes

from app.sentinel_url import Sentinels

NONE_OF_THIS_NAME = "it watches none of this name"
"""What is said of a sentinel that knows no master so called."""


def pool_to(url: str, **options: Any) -> BlockingConnectionPool:
    """Give a pool whose connections lead there; redis-py's options, of which those in the URL win."""
    sentinels = Sentinels.of(url)
    if sentinels is None:
        return BlockingConnectionPool.from_url(url, **options)
    of_url: dict[str, Any] = {**parse_url(sentinels.server("master", 0))}  # whose address is asked for each time
    del of_url["host"]
    of_url["connection_class"] = MasterSSLConnection if sentinels.tls else MasterConnection
    return MasterPool(sentinels.master, Asking(sentinels), **{**options, **of_url})  # type: ignore[no-untyped-call]  # redis-py has no types here


def tls_options(sentinels: Sentinels) -> dict[str, Any]:
    """Give what the URL says of certificates, as redis-py takes it."""
    found = parse_url(sentinels.server("master", 0))
    return {name: value for name, value in found.items() if name.startswith("ssl_")}


class MasterConnection(SentinelManagedConnection):
    """Asks the sentinels where to connect, then the server whether it is the master: a sentinel may not know better.

    A server that refuses to write is left at once.
    """

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and make sure of whom this is."""
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("ROLE", check_health=False)
        role, *_ = await self.read_response()
        if str_if_bytes(role) != "master":
            raise RedisConnectionError(f"{self.host}:{self.port} is a replica; the sentinels have not agreed yet")


class MasterSSLConnection(MasterConnection, SSLConnection):
    """The same with TLS."""


class MasterPool(SentinelConnectionPool, BlockingConnectionPool):
    """redis-py's pool of connections to a master; who finds all of them taken waits."""


class Asking(Sentinel):
    """Asks one sentinel after the other, the one that knew first; each once, and holds nothing open to them."""

    def __init__(self, sentinels: Sentinels) -> None:
        once = {"retry": Retry(NoBackoff(), 0)}
        options = sentinels.asking(tls_options(sentinels)) | once
        super().__init__(sentinels.addresses, sentinel_kwargs=options)  # type: ignore[no-untyped-call]

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Give the master's address. Raises `MasterNotFoundError`, a connection's, with what each sentinel said."""
        answers = list[str]()
        for sentinel in tuple(self.sentinels):
            place = "{host}:{port}".format_map(sentinel.connection_pool.connection_kwargs)
            try:
                state: Any = (await sentinel.sentinel_masters()).get(service_name)  # type: ignore[no-untyped-call]
            except RedisError as error:
                answers.append(f"{place}: {error}")
                continue
            finally:
                await sentinel.connection_pool.disconnect(inuse_connections=False)
            if state and self.check_master_state(state, service_name):
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return str(state["ip"]), int(state["port"])
            answers.append(f"{place}: {'it is down' if state else NONE_OF_THIS_NAME}")
        raise MasterNotFoundError(f"no sentinel names a master {service_name!r} that is up ({'; '.join(answers)})")
