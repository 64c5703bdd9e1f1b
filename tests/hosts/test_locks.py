"""What a host that is cut off still holds in the database."""

import contextlib

import pytest

from app.database import Database, DatabaseUnavailableError
from app.records import Records
from tests.hosts.network import Host
from tests.hosts.system import System
from tests.support.waiting import until_awaited

pytestmark = pytest.mark.anyio
LOST_S = 3.0
REPAIRS = 77
"""A lock like the one under which one API repairs at a time; the APIs themselves leave this one alone."""


async def test_a_host_that_is_cut_off_does_not_keep_its_locks(hosts: System, viewers: Host) -> None:
    """It was the one that repairs; soon another host may, though no connection was closed."""
    lost = hosts.host("worker-a")
    async with (
        Database.connect(hosts.database_url, 1, LOST_S) as theirs,
        Database.connect(hosts.database_url, 1) as ours,
    ):

        async def is_free() -> bool:
            async with Records(ours).alone(REPAIRS) as is_alone:
                return is_alone

        with lost.inside(), contextlib.suppress(DatabaseUnavailableError):
            async with Records(theirs).alone(REPAIRS) as is_alone:
                assert is_alone
                with lost.cut_off(), viewers.inside():
                    assert not await is_free()
                    await until_awaited(is_free, "the lock is free", 3 * LOST_S)
