"""A real PgBouncer with the configuration of production: Debian's, where this machine has it."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from ops.ports import LOOPBACK, free_port, is_free
from tests.support.tools import tool
from tests.support.waiting import until

CONFIGURATION = Path(__file__).parents[2] / "ops/pgbouncer/pgbouncer.ini"

TLS = "client_tls_sslmode = require\nclient_tls_key_file = {own}\nclient_tls_cert_file = {own}\n"


@contextlib.contextmanager
def running_pgbouncer(server_url: str, sessions: int, mode: str = "transaction") -> Iterator[str]:
    """Before a server, with so many sessions to it, for the length of the block; gives the URL that leads through.

    It takes TLS alone, and the URL has it verified, as a provider's would. As root it is nobody, who must reach its
    folder: it refuses to be root.
    """
    program, server, port = tool("pgbouncer", "pgbouncer"), urlsplit(server_url), free_port()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        users = folder / "userlist.txt"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        authority.issue_cert(LOOPBACK).private_key_and_cert_chain_pem.write_to_path(folder / "own.pem")
        text = CONFIGURATION.read_text() + TLS.format(own=folder / "own.pem")
        for here, there in {
            "host=postgres port=5432": f"host={server.hostname} port={server.port}",
            "listen_addr = *": f"listen_addr = {LOOPBACK}",
            "listen_port = 6432": f"listen_port = {port}",
            "/etc/pgbouncer/userlist.txt": str(users),
            "default_pool_size = 20": f"default_pool_size = {sessions}",
            "max_client_conn = 10000": "max_client_conn = 200",
            "pool_mode = transaction": f"pool_mode = {mode}",
        }.items():
            assert here in text, f"{CONFIGURATION} says no longer: {here}"
            text = text.replace(here, there)
        (folder / "pgbouncer.ini").write_text(text)
        command = [program, *(("-u", "nobody") if os.geteuid() == 0 else ()), str(folder / "pgbouncer.ini")]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                until(lambda: not is_free(port), "PgBouncer listens")
                query = f"sslmode=verify-full&sslrootcert={folder / 'authority.pem'}"
                netloc = f"{server.username}:{server.password}@{LOOPBACK}:{port}"
                yield server._replace(netloc=netloc, query=query).geturl()
            finally:
                process.terminate()
