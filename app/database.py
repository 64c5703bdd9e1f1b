"""The pool of connections to PostgreSQL, and the one error that all its failures become."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from time import monotonic
from typing import Any, Self, cast

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import EmulatedDBAPIException, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from app.telemetry import metrics
from app.turns import Turns

LOST_S = 60.0
"""A process that the database can't reach for so long is lost, unless the settings say otherwise."""
BUSY_S = 10.0
"""So long a request waits for one of the pool's connections that others have; then its caller had better come again."""
DRIVER = "postgresql+asyncpg://"
"""asyncpg reads our URLs: SQLAlchemy would pass `sslmode` and its like on as arguments that it does not take."""
UNPREPARED = {"statement_cache_size": 0}
"""What tells asyncpg to send each statement together with its arguments, and to prepare none in the session."""


class DatabaseError(Exception):
    """PostgreSQL did not do what it was asked; nothing was half-made."""


class DatabaseUnavailableError(DatabaseError):
    """PostgreSQL did not answer, or refused; nothing was half-made. Check DATABASE_URL and the server's log."""


class DataRefusedError(DatabaseError):
    """PostgreSQL can't hold what it was given: a fault of ours, which no wait mends. Nothing was half-made."""


class Database:
    """The pool of connections. Leaving any block of it without an error means that its work is committed."""

    def __init__(self, engine: AsyncEngine, size: int, busy_s: float) -> None:
        self._engine, self.size, self._turns = engine, size, Turns(size, busy_s)

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(
        cls, url: str, pool_size: int, lost_s: float = LOST_S, *, pooler: bool = False, busy_s: float = BUSY_S
    ) -> AsyncIterator["Database"]:
        """Own a pool for the length of the block; connections are made when first needed.

        While all are taken, who wants one waits for as long as the database answers the others, and `busy_s` at most.

        If this host is cut off, the server ends its sessions after `lost_s`, and with them whatever they had locked.
        Behind a `pooler` in transaction mode no session is ours: nothing is prepared in one, and nothing set.
        """
        engine = create_async_engine(
            DRIVER,
            async_creator=partial(
                asyncpg.connect, url, timeout=5, command_timeout=10, **(UNPREPARED if pooler else {})
            ),
            pool_size=pool_size,
            max_overflow=0,
            hide_parameters=True,  # they are what people wrote
        )
        if not pooler:
            event.listen(engine.sync_engine, "connect", partial(_end_when_lost, lost_s))
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        metrics.DATABASE_POOL_SIZE.set(pool_size)
        metrics.DATABASE_CONNECTIONS.set_function(lambda: cast("QueuePool", engine.pool).checkedout())
        try:
            yield cls(engine, pool_size, busy_s)
        finally:
            await engine.dispose()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction of its own."""
        with translated_errors(), _Unit() as unit:
            async with self._turns.take(), self._engine.begin() as connection:
                unit.begin()
                yield connection

    @contextlib.asynccontextmanager
    async def driver(self, *, counted: bool = True) -> AsyncIterator[asyncpg.Connection]:
        """Give the driver's own connection; each statement commits by itself. For the hot paths.

        What a process asks by the clock, whether or not anybody streams, is not `counted`.

        It is taken from the engine's pool without an engine's connection around it, which no statement would pass and
        which costs more than the statement's own round trip does here.
        """
        with translated_errors(), _Unit(counted=counted) as unit:
            async with self._turns.take():
                borrowed = await greenlet_spawn(self._engine.pool.connect)
                unit.begin()
                try:
                    yield borrowed.driver_connection
                finally:
                    await greenlet_spawn(borrowed.close)

    async def ping(self) -> None:
        """Raise `DatabaseUnavailableError` unless the database answers."""
        async with self.driver() as connection:
            await connection.execute("SELECT 1")


class _Unit:
    """Counts and times one unit of work: its wait for a connection, also a vain one, and how long it kept that."""

    __slots__ = ("_counted", "_seconds", "_since")

    def __init__(self, *, counted: bool = True) -> None:
        self._counted = counted

    def __enter__(self) -> Self:
        metrics.DATABASE_UNITS.inc(self._counted)
        self._seconds, self._since = metrics.DATABASE_WAIT_SECONDS, monotonic()
        return self

    def begin(self) -> None:
        """Note that it has its connection."""
        self.__exit__()
        self._seconds, self._since = metrics.DATABASE_UNIT_SECONDS, monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds.observe(monotonic() - self._since)


def end_when_lost(lost_s: float) -> str:
    """Give the statements by which the server ends this session once it can't reach us for so long.

    It would else wait for two hours before it asks an idle client, and for a quarter of one for an acknowledgement.
    """
    idle_s, probe_s = max(1, round(lost_s / 2)), max(1, round(lost_s / 6))
    return (
        f"SET tcp_keepalives_idle = {idle_s}; SET tcp_keepalives_interval = {probe_s}; SET tcp_keepalives_count = 3; "
        f"SET tcp_user_timeout = {round(lost_s * 1000)}"
    )


def _end_when_lost(lost_s: float, connection: Any, _record: object) -> None:
    try:
        connection.run_async(lambda driver: driver.execute(end_when_lost(lost_s)))
    except BaseException:  # also of a request whose client has left; the pool does not know this connection yet
        connection.driver_connection.terminate()
        raise


def _refuse_closed(connection: Any, _record: object, _proxy: object) -> None:
    """Keep the pool from handing out what the server has closed: it then makes all its connections anew."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


# The emulated one is what the pool says for a server that refuses a connection (it starts, or has no more to give); the
# internal one is what asyncpg says between a server's FATAL and the end of its connection.
_ERRORS = (
    SQLAlchemyError,
    EmulatedDBAPIException,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
_SHARED_SESSION = (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Turn every way in which a database can fail into `DatabaseUnavailableError`, or into `DataRefusedError`."""
    try:
        yield
    except (*_ERRORS, TimeoutError) as error:
        said = str(error).partition("\n")[0]  # what follows may quote a row, and with it what somebody wrote
        kind = DataRefusedError if _stems_from(error, asyncpg.DataError) else DatabaseUnavailableError
        fix = ". Behind a pooler set STREAMGAUGE_DATABASE_POOLER=true" if _stems_from(error, _SHARED_SESSION) else ""
        raise kind(f"{type(error).__name__}: {said or 'no answer in time'}{fix}") from error


def _stems_from(error: BaseException | None, kinds: type | tuple[type, ...]) -> bool:
    """Tell whether this, or what an engine's error was made of, is of one of these kinds."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__
    return error is not None
