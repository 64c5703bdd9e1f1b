"""The embedded servers are real ones, private to their owner, and survive every way of ending."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import redis

from ops.app_commands import answers
from ops.postgres_server import PostgresServer, running_postgres, start_postgres
from ops.server_home import ServerHome, server_account
from ops.stack import StackOptions, running_stack
from ops.supervisor import Supervisor
from ops.valkey_server import ValkeyServer, running_valkey, start_valkey
from tests.ops.supervised import is_alive, recorded, servers_elsewhere
from tests.support.waiting import until

Servers = tuple[ValkeyServer, PostgresServer]


def query(url: str, *statements: str) -> Any:
    """Run statements on one connection and give the last one's value."""

    async def ask() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                value = await connection.fetchval(statement)
            return value
        finally:
            await connection.close()

    return asyncio.run(ask())


def ask_valkey(url: str, *command: str) -> Any:
    """Run one command on a connection of its own."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


def setting(url: str, name: str) -> str:
    """Read one of Valkey's settings."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return str(client.config_get(name)[name])


def without_password(url: str) -> str:
    return url.replace(f":{urlsplit(url).password}@", ":wrong@")


def listening(pid: int) -> set[str]:
    return {each.laddr.ip for each in psutil.Process(pid).net_connections() if each.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One of each, to be asked; each test leaves them as they were."""
    folder = tmp_path_factory.mktemp("servers")
    with running_valkey(folder / "v") as valkey, running_postgres(folder / "p") as postgres:
        yield valkey, postgres


def test_valkey_is_configured_for_streams_and_queues(both: Servers) -> None:
    """No eviction and no snapshots; a subscription may fall far behind before it is cut off."""
    url = both[0].url
    assert setting(url, "maxmemory-policy") == "noeviction"
    assert setting(url, "save") == ""
    assert f"pubsub {256 << 20} {64 << 20} 60" in setting(url, "client-output-buffer-limit")


def test_valkey_takes_further_settings(tmp_path: Path) -> None:
    """A test can have a small server."""
    with running_valkey(tmp_path, "maxmemory 10mb") as server:
        assert setting(server.url, "maxmemory") == str(10 << 20)


def test_postgresql_keeps_its_promises(both: Servers) -> None:
    """The baseline is PostgreSQL 18 as it ships: durable commits, in UTF-8, with room for many pools."""
    url = both[1].url
    assert query(url, "SHOW server_version_num").startswith("18")
    assert query(url, "SHOW fsync") == "on"
    assert query(url, "SHOW synchronous_commit") == "on"
    assert query(url, "SHOW server_encoding") == "UTF8"
    assert query(url, "SHOW max_connections") == "200"
    assert query(url, "SELECT current_database()") == "streamgauge"


def test_servers_are_closed_to_others(both: Servers) -> None:
    """They listen on the loopback address only, and ask everyone there for the password."""
    valkey, postgres = both
    assert listening(valkey.process.pid) == listening(postgres.process.pid) == {"127.0.0.1"}
    with pytest.raises(redis.AuthenticationError):
        ask_valkey(without_password(valkey.url), "PING")
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(without_password(postgres.url), "SELECT 1")
    for process in (valkey.process, postgres.process):
        words = " ".join(psutil.Process(process.pid).cmdline())
        assert str(urlsplit(valkey.url).password) not in words
        assert str(urlsplit(postgres.url).password) not in words


def test_servers_never_run_as_root(both: Servers) -> None:
    """As root they run as an unprivileged user, without root's groups; else as the user we are."""
    account = server_account()
    for server in both:
        found = psutil.Process(server.process.pid)
        assert set(found.uids()) == {account.uid if account else os.getuid()} - {0}
        assert set(found.gids()) == {account.gid if account else os.getgid()}


def test_a_private_and_deep_folder_is_no_hindrance(both: Servers, tmp_path: Path) -> None:
    """Below a folder that only its owner may enter everything works, and no mode on the way is loosened.

    Nor does it matter that it is deeper than a socket's path may be long, or that servers of another folder run: they
    share neither ports nor data. When they go, they take their data and their programs along.
    """
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    ways = [private, *private.parents]
    before = [step.stat().st_mode for step in ways]
    deep = private.joinpath(*["a folder with a rather long name"] * 5)
    with running_valkey(deep / "v") as valkey, running_postgres(deep / "p") as postgres:
        ask_valkey(valkey.url, "SET", "seen", "1")
        query(postgres.url, "CREATE TABLE seen (n int)")
        assert ask_valkey(both[0].url, "EXISTS", "seen") == 0
        assert query(both[1].url, "SELECT to_regclass('seen')") is None
        assert [step.stat().st_mode for step in ways] == before
        data = postgres.data
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert not data.parent.parent.exists()
    for folder in (deep / "v", deep / "p"):
        assert sorted(path.name for path in folder.iterdir()) == ["lock", "logs"]


def start_both(supervisor: Supervisor) -> Servers:
    home = ServerHome(supervisor, keep=True)
    return start_valkey(supervisor, home), start_postgres(supervisor, home)


def test_what_was_committed_outlives_every_end(tmp_path: Path) -> None:
    """It is there after the stack went down and up again, under the same password, and after a kill of the database.

    A first start that was killed in the middle leaves nothing that the next one would mistake for a database. After a
    power cut the old pid may belong to any process: it is neither ended nor believed.
    """
    with Supervisor(tmp_path) as supervisor:
        half = ServerHome(supervisor, keep=True).own_folder("postgres.new")
        (half / "data").mkdir()
        (half / "data" / "PG_VERSION").write_text("18\n")
    with Supervisor(tmp_path) as supervisor:
        _, first = start_both(supervisor)
        query(first.url, "CREATE TABLE kept AS SELECT 7 AS n")
    with Supervisor(tmp_path) as supervisor, asyncio.Runner() as runner:
        _, killed = start_both(supervisor)
        assert query(killed.url, "SELECT n FROM kept") == 7
        assert urlsplit(killed.url).password == urlsplit(first.url).password
        session = runner.run(asyncpg.connect(killed.url))
        killed.process.kill()
        session.terminate()
        runner.run(asyncio.sleep(0))  # in which its transport closes
    with Supervisor(tmp_path) as supervisor:
        _, recovered = start_both(supervisor)
        assert query(recovered.url, "SELECT n FROM kept") == 7
    lines = [str(os.getpid()), str(recovered.data), "1", "5432", "", "127.0.0.1", "", "ready"]
    (recovered.data / "postmaster.pid").write_text("\n".join(lines))
    with Supervisor(tmp_path) as supervisor:
        _, again = start_both(supervisor)
        assert query(again.url, "SELECT n FROM kept") == 7


def test_servers_end_with_their_supervisor_however_it_ends(tmp_path: Path) -> None:
    """By a signal that it does not handle, or by kill -9; the next start finds all that was committed.

    Also when the database was paused, with the sessions that were open: each is a process, and hears of no kill.
    """
    with servers_elsewhere(tmp_path) as (supervisor, (_, database)):
        query(database, "CREATE TABLE kept AS SELECT 7 AS n")
        left = recorded(tmp_path)
        supervisor.terminate()
    until(lambda: not any(is_alive(entry) for entry in left.values()), "the servers have ended")
    with servers_elsewhere(tmp_path) as (supervisor, _):
        left = recorded(tmp_path)
        supervisor.kill()
    with Supervisor(tmp_path) as successor:
        valkey, postgres = start_both(successor)
        assert not any(is_alive(entry) for entry in left.values())
        assert ask_valkey(valkey.url, "PING")
        assert query(postgres.url, "SELECT n FROM kept") == 7
    with servers_elsewhere(tmp_path) as (supervisor, urls), asyncio.Runner() as runner:
        session = runner.run(asyncpg.connect(urls[1]))
        try:
            database_process = psutil.Process(recorded(tmp_path)["postgres"][0])
            family = [database_process, *database_process.children(recursive=True)]
            assert session.get_server_pid() in {process.pid for process in family}
            for process in family:
                process.suspend()
            supervisor.kill()
            supervisor.wait()
            with Supervisor(tmp_path):
                assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        finally:
            session.terminate()
            runner.run(asyncio.sleep(0))  # in which its transport closes


def test_a_paused_database_answers_nobody_until_it_goes_on(both: Servers) -> None:
    """Its open sessions are paused with it, though each is a process and a session of its own."""

    async def ask_meanwhile(server: PostgresServer) -> int:
        connection = await asyncpg.connect(server.url)
        server.process.pause()
        asking = asyncio.create_task(connection.fetchval("SELECT 7"))
        _, pending = await asyncio.wait({asking}, timeout=0.3)
        server.process.resume()
        assert pending, "a paused server has answered"
        answer: int = await asking
        await connection.close()
        return answer

    assert asyncio.run(ask_meanwhile(both[1])) == 7


def test_who_asks_the_model_alone_gets_nothing_else(tmp_path: Path) -> None:
    """No database, no store, no worker and no API."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
    with running_stack(StackOptions(tmp_path / "stack", model_only=True, environment=environment)) as stack:
        assert list(stack.processes) == ["model"]
        assert answers(f"{stack.openai_base_url}/models")
