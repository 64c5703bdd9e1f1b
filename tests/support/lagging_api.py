"""An API whose event loop somebody blocks: `python -m tests.support.lagging_api PORT`."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

from fastapi import FastAPI

from app.main import create_app
from app.serve import DrainingServer, listen
from app.settings import load_settings

BLOCKED_S, FREE_S = 0.6, 0.02


def blocked(app: FastAPI) -> None:
    """Let a call that blocks take most of the loop's time, as a driver without async would."""
    within = app.router.lifespan_context

    async def keep_blocking() -> None:
        while True:
            time.sleep(BLOCKED_S)  # noqa: ASYNC251 - that is the fault
            await asyncio.sleep(FREE_S)

    @contextlib.asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[None]:
        async with within(started):
            blocking = asyncio.create_task(keep_blocking())
            yield
            blocking.cancel()

    app.router.lifespan_context = lifespan


if __name__ == "__main__":
    settings = load_settings()
    app = create_app(settings)
    blocked(app)
    with listen("127.0.0.1", int(sys.argv[1]), settings.write_timeout_s) as listener:
        DrainingServer(app, settings).run(sockets=[listener])
