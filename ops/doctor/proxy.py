"""What stands between viewers and an API: whether it lets chunks through as they come."""

import asyncio
from statistics import median

import asyncpg
import httpx2

from ops.doctor.finding import Finding, Findings, error, warning, well
from ops.doctor.viewing import RefusedError, View, post

TOKENS = 40
PATIENCE_S = 30.0
HELD_S = 0.1
"""An unbuffered proxy adds milliseconds; a buffer holds the first chunks until it is full, or until the end."""
NGINX = "nginx: proxy_buffering off; proxy_http_version 1.1; gzip off; proxy_read_timeout 120s (see ops/nginx/)."


async def examine_proxy(http: httpx2.AsyncClient, through: str, api: str, database: asyncpg.Connection) -> Findings:
    """Watch one message twice at once, at the API and through the proxy, and compare when each chunk came."""
    check, direct, proxied = f"proxy {through}", View(), View()
    try:
        conversation, task_id, _ = await post(http, api, TOKENS)
    except RefusedError:  # which the canary says
        return
    try:
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as views:
            views.create_task(direct.follow(http, api, task_id))
            views.create_task(proxied.follow(http, through, task_id))
    except TimeoutError:
        proxied.failure = proxied.failure or f"no end within {PATIENCE_S:g} s"
    finally:
        await database.execute("DELETE FROM conversation WHERE id = $1", conversation)
    if not proxied.is_sse:
        evidence = proxied.failure or f"{proxied.status} where an SSE response was expected"
        yield error(check, "leads to no stream", evidence, "Correct --through, or what it passes /stream/ on to.")
        return
    yield _held(check, direct, proxied)
    if proxied.encoding:
        fix = f"Leave text/event-stream out of compression. {NGINX}"
        yield error(f"{check} encoding", "compresses streams, which holds chunks back", proxied.encoding, fix)
    if direct.terminal and not proxied.terminal:
        evidence = proxied.failure or "the response ended without a terminal"
        yield warning(f"{check} end", "cuts streams off", evidence, f"Raise its read timeout. {NGINX}")


def _held(check: str, direct: View, proxied: View) -> Finding:
    common = direct.arrivals.keys() & proxied.arrivals.keys()
    late = sorted((proxied.arrivals[index] - direct.arrivals[index]) / 1e9 for index in common)
    if not late:
        return error(check, "lets no chunk through", f"{len(direct.arrivals)} came directly", NGINX)
    evidence = (
        f"{len(late)} chunks came {median(late) * 1000:.0f} ms later than directly (median), {late[-1]:.2f} s at most"
    )
    if median(late) > HELD_S:
        return error(check, "buffers: viewers see nothing, and then much at once", evidence, NGINX)
    return well(check, evidence)
