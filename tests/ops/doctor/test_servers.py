"""Faults of a Valkey, planted on a real one that runs by ops/valkey/valkey.conf, and found with their fix."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import redis

from app.settings import Settings
from app.streaming.keys import meta_key
from ops.doctor.broker import examine_broker
from ops.doctor.finding import Finding, Severity
from ops.doctor.server import judge_version
from ops.doctor.store import examine_store
from ops.doctor.workers import examine_workers
from ops.valkey_server import ValkeyServer, running_valkey
from tests.ops.doctor.findings import only, troubles
from tests.support import valkey
from tests.support.refusing import stopped_by_a_script
from tests.support.valkey_sentinel import NAME, running_sentinel, running_sentinels
from tests.support.waiting import until, until_awaited

pytestmark = pytest.mark.anyio
NOWHERE = "redis://127.0.0.1:1/0"
BUSY = "local x = 0 for i = 1, 4e7 do x = x + i end return x"
Plant = Callable[["redis.Redis", Path], Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One healthy server for all of them."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as found:
        yield found


@pytest.fixture
def client(server: ValkeyServer) -> Iterator["redis.Redis"]:
    """A client of it; what a test changed is changed back."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        before: Any = client.config_get("*")
        yield client
        client.execute_command("REPLICAOF NO ONE")
        after: Any = client.config_get("*")
        for name in (name for name, value in after.items() if before[name] != value):
            client.config_set(name, before[name])
        client.flushall()
        client.slowlog_reset()


def store_at(url: str, **changes: Any) -> Settings:
    return Settings(redis_url=url, broker_url=changes.pop("broker_url", NOWHERE), **changes)


def config(name: str, value: str | int) -> Plant:
    return lambda client, _folder: client.config_set(name, value)


def nearly_full(client: "redis.Redis", _folder: Path) -> None:
    used: Any = client.info("memory")
    client.config_set("maxmemory", int(used["used_memory"] * 1.02))


def many_clients(client: "redis.Redis", _folder: Path) -> None:
    client.config_set("maxclients", 12)
    pool = client.connection_pool
    held = [pool.get_connection() for _ in range(9)]
    for connection in held:
        pool.release(connection)


def deep_queue(client: "redis.Redis", _folder: Path) -> None:
    client.lpush("celery", *("{}" for _ in range(60)))


STORE: dict[str, tuple[Plant, str, str]] = {
    "store.eviction": (config("maxmemory-policy", "allkeys-lru"), "allkeys-lru", "noeviction"),
    "store.memory": (nearly_full, "maxmemory", "STREAMGAUGE_CHUNK_TTL_S"),
    "store.clients": (many_clients, "maxclients 12", "Raise maxclients"),
    "store.output-buffer": (
        config("client-output-buffer-limit", "pubsub 33554432 8388608 60"), "33554432 8388608 60", "256mb 64mb 60",
    ),
    "store.timeout": (config("timeout", 300), "timeout 300", "CONFIG SET timeout 0"),
    "store.keyspace-events": (config("notify-keyspace-events", "KEA"), "AKE", "notify-keyspace-events"),
    "store.slowlog": (config("slowlog-log-slower-than", -1), "-1", "10000"),
    "store.slow": (lambda client, _: client.eval(BUSY, 0), "ms for EVAL", "SLOWLOG GET"),
    "store.role": (lambda client, _: client.replicaof("127.0.0.1", 1), "role slave", "primary"),
    "store.replicas": (config("min-replicas-to-write", 1), "0 replicas", "CONFIG SET min-replicas-to-write 0"),
    "store.ttl": (
        lambda client, _: client.hset(meta_key(UUID(int=7)), "state", "open"), "is -1", "EXPIRE each 3600",
    ),
}  # fmt: skip


async def test_a_healthy_server_has_nothing_to_report(server: ValkeyServer) -> None:
    """Under the very file that production uses."""
    assert await troubles(examine_store(store_at(server.url))) == {}


@pytest.mark.parametrize("check", STORE)
async def test_a_fault_of_the_store_is_found_alone_and_with_its_fix(
    check: str, server: ValkeyServer, client: "redis.Redis", tmp_path: Path
) -> None:
    """Each is planted on a server that is well otherwise."""
    plant, evidence, fix = STORE[check]
    plant(client, tmp_path)
    only(await troubles(examine_store(store_at(server.url))), check, evidence, fix)


async def test_a_slow_command_is_found_behind_many_others(server: ValkeyServer, client: "redis.Redis") -> None:
    """It is not among the newest of the log."""
    client.eval(BUSY, 0)
    pass_through_the_slow_log(client, 60)
    only(await troubles(examine_store(store_at(server.url))), "store.slow", "ms for EVAL", "SLOWLOG GET")


async def test_a_slow_log_that_forgot_is_worth_a_note(server: ValkeyServer, client: "redis.Redis") -> None:
    """It is full, and its oldest entry is not old: who looks into it in vain may be too late."""
    pass_through_the_slow_log(client, 150)
    found = await troubles(examine_store(store_at(server.url)))
    only(found, "store.slow", "128 of 128 entries", "slowlog-max-len 1024")
    assert found["store.slow"].severity is Severity.NOTE


async def test_a_slow_log_of_no_length_keeps_nothing(server: ValkeyServer, client: "redis.Redis") -> None:
    """However slow a command has to be for it."""
    client.config_set("slowlog-max-len", 0)
    only(await troubles(examine_store(store_at(server.url))), "store.slowlog", "slowlog-max-len 0", "1024")


def pass_through_the_slow_log(client: "redis.Redis", number: int) -> None:
    """Have it keep this many quick commands."""
    client.config_set("slowlog-log-slower-than", 0)
    for _ in range(number):
        client.ping()
    client.config_set("slowlog-log-slower-than", 10_000)


async def test_a_full_server_for_both_jobs_is_named_where_workers_can_not_be_asked(
    server: ValkeyServer, client: "redis.Redis"
) -> None:
    """Nothing is said of the broker then, since it was examined as the store."""
    client.config_set("maxmemory", 1)
    settings = store_at(server.url, broker_url=server.url)
    assert "store.memory" in await troubles(examine_store(settings))
    found = await troubles(examine_workers(settings))
    only(found, "workers", "maxmemory", "See what is said of the store")


async def test_a_snapshot_that_fails_is_seen(server: ValkeyServer, client: "redis.Redis") -> None:
    """Here a folder lies where it should be put; a full disk looks the same."""
    folder: Any = client.config_get("dir")
    blocked = Path(folder["dir"]) / "dump.rdb"
    (blocked / "inside").mkdir(parents=True)
    try:
        snapshot(client, "err")
        found = await troubles(examine_store(store_at(server.url)))
    finally:
        shutil.rmtree(blocked)
        snapshot(client, "ok")
    only(found, "store.disk", "rdb_last_bgsave_status", "folder")


def snapshot(client: "redis.Redis", outcome: str) -> None:
    def ended() -> bool:
        persistence: Any = client.info("persistence")
        return bool(persistence["rdb_last_bgsave_status"] == outcome)

    client.bgsave()
    until(ended, f"the snapshot has ended: {outcome}")


async def test_an_eviction_policy_costs_messages_once_memory_has_a_limit(
    server: ValkeyServer, client: "redis.Redis"
) -> None:
    """Without one nothing is evicted, and somebody will set one."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    severities = list[Severity]()
    for limit in ("0", "1gb"):
        client.config_set("maxmemory", limit)
        severities.append((await troubles(examine_store(store_at(server.url))))["store.eviction"].severity)
    assert severities == [Severity.WARNING, Severity.ERROR]


@pytest.mark.parametrize(
    ("check", "plant", "evidence", "fix"),
    [
        ("broker.eviction", config("maxmemory-policy", "allkeys-lru"), "allkeys-lru", "noeviction"),
        ("broker.queue", deep_queue, "LLEN celery is 60", "Start more workers"),
    ],
)
async def test_a_fault_of_the_broker_is_found_beside_what_a_store_may_do(
    check: str, plant: Plant, evidence: str, fix: str, server: ValkeyServer, client: "redis.Redis", tmp_path: Path
) -> None:
    """The store keeps nothing on disk; of a broker that is worth a note."""
    plant(client, tmp_path)
    found = await troubles(examine_broker(store_at(NOWHERE, broker_url=server.url)))
    assert "appendonly yes" in found.pop("broker.persistence").fix
    only(found, check, evidence, fix)


async def test_a_store_that_is_the_broker_too_is_worth_a_note(server: ValkeyServer) -> None:
    """Also in another database of it, which goes with it: its loss stops new messages, where a store's does not."""
    shared = store_at(server.url, broker_url=server.url.rpartition("/")[0] + "/1")
    found = {finding.check: finding async for finding in examine_broker(shared)}["broker.own"]
    assert found.severity is Severity.NOTE
    assert "503" in found.finding
    assert "BROKER_URL" in found.fix
    assert "broker.own" not in await troubles(examine_broker(store_at(NOWHERE, broker_url=server.url)))


async def test_nothing_listens() -> None:
    """The address, or the server."""
    only(await troubles(examine_store(store_at(NOWHERE))), "store.connection", "", "correct REDIS_URL")


async def test_the_password_is_wrong(server: ValkeyServer) -> None:
    """It is told apart from a server that is away."""
    wrong = server.url.replace("redis://:", "redis://:x")
    only(await troubles(examine_store(store_at(wrong))), "store.connection", "password", "password in REDIS_URL")


async def test_the_user_may_not_do_what_is_needed(server: ValkeyServer, client: "redis.Redis") -> None:
    """An ACL that is too narrow."""
    client.acl_setuser("narrow", enabled=True, passwords=["+x"], commands=["+ping"])
    try:
        narrow = "redis://narrow:x@" + server.url.rpartition("@")[2]
        only(await troubles(examine_store(store_at(narrow))), "store.connection", "permission", "ACL")
    finally:
        client.acl_deluser("narrow")


async def test_a_script_that_runs_on(server: ValkeyServer, client: "redis.Redis") -> None:
    """The server is there, and to start it again would lose what it holds."""
    with stopped_by_a_script(client):
        found = await troubles(examine_store(store_at(server.url)))
    only(found, "store.connection", "BUSY", "SCRIPT KILL")


async def test_the_server_is_stopped(server: ValkeyServer) -> None:
    """It takes connections and answers nothing."""
    server.process.pause()
    try:
        found = await troubles(examine_store(store_at(server.url)))
    finally:
        server.process.resume()
    only(found, "store.connection", "", "stopped or overloaded")


async def test_cluster_and_single_server_are_not_taken_for_each_other(server: ValkeyServer) -> None:
    """Nor may a cluster be Celery's broker; and slots that nobody serves are seen."""
    found = await troubles(examine_store(store_at(server.url, store_cluster=True)))
    only(found, "store.cluster", "cluster_enabled 0", "STREAMGAUGE_STORE_CLUSTER=false")
    with valkey.running_valkey(options=("--cluster-enabled", "yes")) as cluster:
        single = await troubles(examine_store(store_at(cluster.url)))
        unserved = await troubles(examine_store(store_at(cluster.url, store_cluster=True)))
        broker = await troubles(examine_broker(store_at(NOWHERE, broker_url=cluster.url)))
    assert "STREAMGAUGE_STORE_CLUSTER=true" in single["store.cluster"].fix
    assert "cluster_state fail" in unserved["store.cluster"].evidence
    assert "single server" in broker["broker.cluster"].fix


@pytest.mark.parametrize(("told", "is_well"), [("5.0.14", False), ("6.2.0", True), ("7.2.4", True)])
def test_a_server_that_is_too_old_is_said_to_be(told: str, is_well: bool) -> None:
    """By what it says of itself; none so old can be installed here."""
    finding = judge_version("store", {"redis_version": told})
    assert finding.is_well is is_well
    assert is_well or "Upgrade" in finding.fix


async def said_of_sentinels(url: str) -> Finding:
    (found,) = [each async for each in examine_store(store_at(url)) if each.check == "store.sentinels"]
    return found


async def test_what_a_failover_would_lack_is_found() -> None:
    """A sentinel that is away, then a replica that is; store and broker behind the same sentinels are one server."""
    with running_sentinels() as servers:
        found = await said_of_sentinels(servers.url)
        master = f"127.0.0.1:{servers.master.port}"
        assert found.finding == f"3 of 3 sentinels say that {master} is the master; 1 could take over"
        found = await said_of_sentinels(servers.url_with_one_away)
        assert (found.severity, found.finding[:6], found.fix[:9]) == (Severity.WARNING, "3 of 4", "Start tho")
        own = [each async for each in examine_broker(store_at(servers.url, broker_url=servers.url))]
        assert [each.severity for each in own if each.check == "broker.own"] == [Severity.NOTE]
        servers.replica.kill()

        async def is_missed() -> bool:
            return "no replica to take over" in (await said_of_sentinels(servers.url)).finding

        await until_awaited(is_missed, "the sentinels miss the replica")


async def test_too_few_sentinels_are_found() -> None:
    """One has no majority when it is lost."""
    with valkey.running_valkey() as server, running_sentinel(server.port) as port:
        found = await said_of_sentinels(f"redis+sentinel://127.0.0.1:{port}/{NAME}")
    assert "Run 3" in found.fix


async def test_a_master_that_no_sentinel_knows_is_a_wrong_name() -> None:
    """The server may be well: the fix is another name."""
    with valkey.running_valkey() as server, running_sentinel(server.port) as port:
        found = await troubles(examine_store(store_at(f"redis+sentinel://127.0.0.1:{port}/another")))
    only(found, "store.connection", "'another'", "Correct the master's name in REDIS_URL")
