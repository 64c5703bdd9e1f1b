"""Whether DATABASE_URL reaches the server, or a pooler that gives one session to many."""

import asyncpg

from app.settings import Settings
from ops.doctor.database import AWAY, connect, unreachable
from ops.doctor.finding import Finding, error, note, well

CHECK = "database.pooler"
PID = "SELECT pg_backend_pid()"
LOOKS = 10
"""So often two connections are compared: in a busy pool they may miss each other now and then."""


async def examine_pooler(connection: asyncpg.Connection, settings: Settings) -> Finding:
    """Hold what DATABASE_URL leads to against what STREAMGAUGE_DATABASE_POOLER says of it."""
    try:
        evidence = await _sharing(connection, settings)
    except AWAY as cause:
        return unreachable(cause)
    if evidence and not settings.database_pooler:
        return error(
            CHECK,
            "a pooler in transaction mode stands before it: prepared statements go astray, `notify` hears nothing",
            evidence,
            "Set STREAMGAUGE_DATABASE_POOLER=true for every process, or name the server itself in DATABASE_URL.",
        )
    if settings.database_pooler and not evidence:
        return note(
            CHECK,
            "gives each connection a session of its own, and is used as a pooler in transaction mode",
            "STREAMGAUGE_DATABASE_POOLER true",
            "Unset it, if every process reaches this one: statements then stay prepared, and `notify` can be had.",
        )
    return well(CHECK, "a pooler in transaction mode, as it is used" if evidence else "each connection has a session")


async def _sharing(connection: asyncpg.Connection, settings: Settings) -> str:
    """Give what shows that sessions go from hand to hand; empty if nothing does.

    A pooler makes up the pid that it tells at the beginning, in session mode as well; only in transaction mode do two
    connections meet one session, or one of them two.
    """
    if await connection.fetchval(PID) == connection.get_server_pid():
        return ""
    other = await connect(settings)
    try:
        for _ in range(LOOKS):
            before = await connection.fetchval(PID)
            async with other.transaction():
                theirs = await other.fetchval(PID)
                if before == theirs:
                    return f"two connections met session {theirs}"
                if before != (after := await connection.fetchval(PID)):
                    return f"one connection met sessions {before} and {after}"
    finally:
        await other.close()
    return ""
