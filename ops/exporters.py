"""What the servers say of themselves, for Prometheus: their usual exporters, where somebody has installed them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ops.ports import LOOPBACK, free_port
from ops.processes import Command

JOBS = REDIS, POSTGRES = "redis", "postgres"
"""Whose exporter it is; the job that Prometheus scrapes has the same name."""
HOW_TO_GET = "apt-get install prometheus-redis-exporter prometheus-postgres-exporter"


class Exporter(NamedTuple):
    """One to start, and where it will answer."""

    job: str
    command: Command
    url: str


def exporters(redis_url: str, database_url: str, environment: Mapping[str, str], folder: Path) -> list[Exporter]:
    """Give those that are installed, under Debian's name or their own."""
    # Addresses with their passwords go by the environment: arguments can be read by every account.
    several = [
        (REDIS, (), {"REDIS_ADDR": redis_url}),
        # Debian's asks PostgreSQL 17 and later for columns that are gone.
        (POSTGRES, ("--no-collector.bgwriter",), {"DATA_SOURCE_NAME": _without_tls(database_url)}),
    ]
    found = []
    for job, options, address in several:
        program = shutil.which(f"prometheus-{job}-exporter") or shutil.which(f"{job}_exporter")
        if program:
            port = free_port()
            argv = (program, f"--web.listen-address={LOOPBACK}:{port}", *options)
            command = Command(f"{job}-exporter", "exporter", argv, {**environment, **address}, folder)
            found.append(Exporter(job, command, f"http://{LOOPBACK}:{port}/metrics"))
    return found


def _without_tls(database_url: str) -> str:
    """Say that a server without TLS will do, unless the address says what is wanted."""
    if "sslmode=" in database_url:
        return database_url
    return f"{database_url}{'&' if '?' in database_url else '?'}sslmode=disable"
