"""One message of the doctor's own, followed hop by hop; where it does not come through, says where it stopped."""

import asyncio
from time import monotonic
from uuid import UUID

import asyncpg
import httpx2

from app.broker import make_celery
from app.settings import Settings
from ops.doctor.connection import AWAY, connected
from ops.doctor.finding import Finding, error, well
from ops.doctor.store import holds_chunks
from ops.doctor.viewing import RefusedError, View, post

PATIENCE_S = 10.0
MAX_TOKENS = 5
HOPS = ("posted", "queued", "claimed by a worker", "first chunk stored", "seen by a viewer", "ended")
_PIN = "SELECT backend FROM stream WHERE task_id = $1"
FIXES = {
    "upstream": "The model refused or broke off: see what is said of it, and the worker's log.",
    "timeout": "The model fell silent: see its server's log; STREAMGAUGE_MODEL_STALL_S is the patience.",
    "producer_lost": "The worker was lost while it answered: see its log, and whether the system killed it (dmesg).",
    "persist": "The database did not take the answer: see what is said of it.",
    "internal": "See the traceback in the worker's log.",
}


async def follow_canary(
    http: httpx2.AsyncClient, api: str, settings: Settings, database: asyncpg.Connection
) -> Finding:
    """Post one short message at an API, watch it, and take it away again."""
    check, begun = f"canary {api}", monotonic()
    try:
        conversation, task_id, pin = await post(http, api, MAX_TOKENS)
    except RefusedError as cause:
        return error(check, "stops at the API: it takes no message", str(cause), cause.fix)
    view = View()
    try:
        await asyncio.wait_for(view.follow(http, api, task_id), PATIENCE_S)
    except TimeoutError:
        return await _stopped(check, settings, database, task_id, pin, view)
    else:
        moved = await database.fetchval(_PIN, task_id)
    finally:
        await database.execute("DELETE FROM conversation WHERE id = $1", conversation)
    if view.terminal is None:
        return error(check, "its view was cut off", view.failure or f"status {view.status}", "See the API's log.")
    if (code := view.terminal.get("code")) is not None:
        return error(check, f"fails with {code!r}", _passed(2), FIXES.get(code, FIXES["internal"]))
    if moved != pin:
        return _moved(check, pin, moved)
    return well(check, f"came through all {len(HOPS)} hops in {(monotonic() - begun) * 1000:.0f} ms")


def _moved(check: str, pin: str, backend: str) -> Finding:
    fix = "The worker could not use the chunk store: see its log, and compare its REDIS_URL with the API's."
    return error(check, f"was handed over: it began in {pin} and went on in {backend}", _passed(2), fix)


async def _stopped(
    check: str, settings: Settings, database: asyncpg.Connection, task_id: UUID, pin: str, view: View
) -> Finding:
    """Find the first hop that it has not passed."""
    row = await database.fetchrow("SELECT attempt, backend FROM stream WHERE task_id = $1", task_id)
    if view.arrivals:
        fix = "See the worker's log: it or the model stands still in mid-answer; or the database takes no commit."
        return error(check, "stops in mid-answer", _passed(4, f"{len(view.arrivals)} chunks"), fix)
    if row is None:
        fix = "The API writes to another database than this DATABASE_URL: compare the processes' settings."
        return error(check, "is in no database that we see", _passed(0), fix)
    if row["backend"] != pin:  # a viewer who came before has a store that holds the stream, and waits there in vain
        return _moved(check, pin, row["backend"])
    if not row["attempt"]:
        return await _unclaimed(check, settings, task_id)
    if not await holds_chunks(settings, database, row["backend"], task_id):
        fix = "See what is said of the model; if that is well, see the worker's log: it may be stopped in mid-work."
        return error(check, "stops at the model or the worker: no chunk is stored", _passed(2), fix)
    fix = (
        "The API does not hear of chunks that are stored: compare its REDIS_URL with the workers', "
        "and see `client-output-buffer-limit` and the API's log."
    )
    return error(check, "stops between store and viewer: chunks are stored and not seen", _passed(3), fix)


async def _unclaimed(check: str, settings: Settings, task_id: UUID) -> Finding:
    with make_celery(settings.broker_url) as celery:
        queue = str(celery.conf.task_default_queue)
    try:
        async with connected(settings.broker_url) as client:
            waiting = await client.lrange(queue, 0, -1)
            fetched = await client.hvals("unacked")
    except AWAY as cause:
        return error(check, "stops at the broker", f"{_passed(0)}; {cause}", "See what is said of the broker.")
    if any(str(task_id) in message for message in waiting):
        fix = "Start a worker, continue one that is stopped, or see which queue it takes from."
        return error(check, "stops in the queue: no worker fetches it", _passed(1, f"{len(waiting)} wait"), fix)
    if any(str(task_id) in message for message in fetched):
        fix = "A worker has fetched it and does not begin: it is stopped, or all of its slots are taken."
        return error(check, "stops in a worker: fetched and not begun", _passed(1), fix)
    fix = (
        "It was taken from the queue and is with no worker of ours: another program's worker has it, "
        "or API and workers name different brokers."
    )
    return error(check, "is lost between queue and worker", _passed(0), fix)


def _passed(hops: int, more: str = "") -> str:
    """Draw the way with the hops that it has passed."""
    marks = [f"{name} {'✓' if place <= hops else '✗'}" for place, name in enumerate(HOPS)]
    return " → ".join(marks[: hops + 2]) + (f" ({more})" if more else "")
