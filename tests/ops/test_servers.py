"""The embedded servers are real ones, private to their owner, and survive every way of ending."""

import asyncio
import os
import stat
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


def test_valkey_is_configured_for_streams_and_queues(tmp_path: Path) -> None:
    """No eviction and no snapshots; a subscription may fall far behind before it is cut off."""
    with running_valkey(tmp_path) as server:
        assert setting(server.url, "maxmemory-policy") == "noeviction"
        assert setting(server.url, "save") == ""
        assert f"pubsub {256 << 20} {64 << 20} 60" in setting(server.url, "client-output-buffer-limit")


def test_valkey_takes_further_settings(tmp_path: Path) -> None:
    """A test can have a small server."""
    with running_valkey(tmp_path, "maxmemory 10mb") as server:
        assert setting(server.url, "maxmemory") == str(10 << 20)


def test_postgresql_keeps_its_promises(tmp_path: Path) -> None:
    """The baseline is PostgreSQL 18 as it ships: durable commits, in UTF-8, with room for many pools."""
    with running_postgres(tmp_path) as server:
        assert query(server.url, "SHOW server_version_num").startswith("18")
        assert query(server.url, "SHOW fsync") == "on"
        assert query(server.url, "SHOW synchronous_commit") == "on"
        assert query(server.url, "SHOW server_encoding") == "UTF8"
        assert query(server.url, "SHOW max_connections") == "200"
        assert query(server.url, "SELECT current_database()") == "streamgauge"


def test_servers_are_closed_to_others(tmp_path: Path) -> None:
    """They listen on the loopback address only, and ask everyone there for the password."""
    with running_valkey(tmp_path / "v") as valkey, running_postgres(tmp_path / "p") as postgres:
        assert listening(valkey.process.pid) == listening(postgres.process.pid) == {"127.0.0.1"}
        with pytest.raises(redis.AuthenticationError):
            ask_valkey(without_password(valkey.url), "PING")
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(without_password(postgres.url), "SELECT 1")
        for process in (valkey.process, postgres.process):
            words = " ".join(psutil.Process(process.pid).cmdline())
            assert str(urlsplit(valkey.url).password) not in words
            assert str(urlsplit(postgres.url).password) not in words


def test_servers_never_run_as_root(tmp_path: Path) -> None:
    """As root they run as an unprivileged user, without root's groups; else as the user we are."""
    account = server_account()
    with running_valkey(tmp_path / "v") as valkey, running_postgres(tmp_path / "p") as postgres:
        for process in (valkey.process, postgres.process):
            found = psutil.Process(process.pid)
            assert set(found.uids()) == {account.uid if account else os.getuid()} - {0}
            assert set(found.gids()) == {account.gid if account else os.getgid()}


def test_a_private_folder_stays_private(tmp_path: Path) -> None:
    """Below a folder that only its owner may enter everything works, and no mode on the way is loosened."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    ways = [private, *private.parents]
    before = [step.stat().st_mode for step in ways]
    with running_valkey(private / "v") as valkey, running_postgres(private / "p") as postgres:
        assert ask_valkey(valkey.url, "PING")
        assert query(postgres.url, "SELECT 1") == 1
        assert [step.stat().st_mode for step in ways] == before
        assert stat.S_IMODE(postgres.data.stat().st_mode) == 0o700


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    """A folder deeper than a socket's path may be long works too."""
    deep = tmp_path.joinpath(*["a folder with a rather long name"] * 5)
    deep.mkdir(parents=True)
    with running_postgres(deep) as server:
        assert query(server.url, "SELECT 1") == 1


def test_two_of_each_run_at_once(tmp_path: Path) -> None:
    """Servers of two folders share neither ports nor data."""
    with running_postgres(tmp_path / "a") as first, running_postgres(tmp_path / "b") as second:
        query(first.url, "CREATE TABLE seen (n int)")
        assert query(second.url, "SELECT to_regclass('seen')") is None
    with running_valkey(tmp_path / "a") as one, running_valkey(tmp_path / "b") as other:
        ask_valkey(one.url, "SET", "seen", "1")
        assert ask_valkey(other.url, "EXISTS", "seen") == 0


def test_nothing_but_logs_is_left(tmp_path: Path) -> None:
    """A server for a test takes its data and its programs along when it goes."""
    with running_postgres(tmp_path) as server:
        data = server.data
    assert not data.parent.parent.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "logs"]


def start_both(supervisor: Supervisor) -> tuple[ValkeyServer, PostgresServer]:
    home = ServerHome(supervisor, keep=True)
    return start_valkey(supervisor, home), start_postgres(supervisor, home)


def test_data_outlives_a_restart(tmp_path: Path) -> None:
    """What was committed is there after the stack went down and up again, under the same password."""
    with Supervisor(tmp_path) as supervisor:
        _, postgres = start_both(supervisor)
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS n")
    with Supervisor(tmp_path) as supervisor:
        _, again = start_both(supervisor)
        assert query(again.url, "SELECT n FROM kept") == 7
        assert urlsplit(again.url).password == urlsplit(postgres.url).password


def test_a_kill_of_the_supervisor_is_recovered_from(tmp_path: Path) -> None:
    """After kill -9 of their supervisor the servers end, and the next start finds all that was committed."""
    with servers_elsewhere(tmp_path) as (supervisor, (_, database)):
        query(database, "CREATE TABLE kept AS SELECT 7 AS n")
        left = recorded(tmp_path)
        supervisor.kill()
    with Supervisor(tmp_path) as successor:
        valkey, postgres = start_both(successor)
        assert not any(is_alive(entry) for entry in left.values())
        assert ask_valkey(valkey.url, "PING")
        assert query(postgres.url, "SELECT n FROM kept") == 7


def test_a_paused_database_answers_nobody_until_it_goes_on(tmp_path: Path) -> None:
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

    with running_postgres(tmp_path) as server:
        assert asyncio.run(ask_meanwhile(server)) == 7


def test_sigkill_of_the_database_is_recovered_from(tmp_path: Path) -> None:
    """A database that was killed with a session open starts again on the same port with all that was committed."""
    with Supervisor(tmp_path) as supervisor:
        _, postgres = start_both(supervisor)
        query(postgres.url, "CREATE TABLE kept AS SELECT 7 AS n")
        postgres.process.kill()
    with Supervisor(tmp_path) as supervisor:
        _, again = start_both(supervisor)
        assert query(again.url, "SELECT n FROM kept") == 7


def test_a_pid_file_whose_pid_is_somebody_elses_does_not_hinder(tmp_path: Path) -> None:
    """After a power cut the old pid may belong to any process: it is neither ended nor believed."""
    with Supervisor(tmp_path) as supervisor:
        _, postgres = start_both(supervisor)
    lines = [str(os.getpid()), str(postgres.data), "1", "5432", "", "127.0.0.1", "", "ready"]
    (postgres.data / "postmaster.pid").write_text("\n".join(lines))
    with Supervisor(tmp_path) as supervisor:
        _, again = start_both(supervisor)
        assert query(again.url, "SELECT 1") == 1


def test_half_made_data_is_made_anew(tmp_path: Path) -> None:
    """A first start that was killed in the middle leaves nothing that the next one would mistake for a database."""
    with Supervisor(tmp_path) as supervisor:
        half = ServerHome(supervisor, keep=True).own_folder("postgres.new")
        (half / "data").mkdir()
        (half / "data" / "PG_VERSION").write_text("18\n")
    with Supervisor(tmp_path) as supervisor:
        _, postgres = start_both(supervisor)
        assert query(postgres.url, "SELECT 1") == 1


def test_servers_end_when_their_supervisor_is_terminated(tmp_path: Path) -> None:
    """No server is left when the supervising process is ended by a signal it does not handle."""
    with servers_elsewhere(tmp_path) as (supervisor, _):
        left = recorded(tmp_path)
        supervisor.terminate()
    until(lambda: not any(is_alive(entry) for entry in left.values()), "the servers have ended")


def test_a_database_that_was_paused_when_its_supervisor_was_killed_is_ended(tmp_path: Path) -> None:
    """With the sessions that were open: each is a process, and none of them hears of the kill."""
    with servers_elsewhere(tmp_path) as (supervisor, urls), asyncio.Runner() as runner:
        session = runner.run(asyncpg.connect(urls[1]))
        try:
            postgres = psutil.Process(recorded(tmp_path)["postgres"][0])
            family = [postgres, *postgres.children(recursive=True)]
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


def test_who_asks_the_model_alone_gets_nothing_else(tmp_path: Path) -> None:
    """No database, no store, no worker and no API."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"}
    with running_stack(StackOptions(tmp_path / "stack", model_only=True, environment=environment)) as stack:
        assert list(stack.processes) == ["model"]
        assert answers(f"{stack.openai_base_url}/models")
