"""An API whose event loop somebody blocks."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI

from app.main import create_app
from app.serve import DrainingServer, listen
from app.settings import Settings
from tests.support.waiting import until

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


@contextlib.contextmanager
def lagging_api(settings: Settings) -> Iterator[str]:
    """Serve it on a loop of its own for the length of the block; its URL."""
    app = create_app(settings)
    blocked(app)
    with listen("127.0.0.1", 0, settings.write_timeout_s) as listener:
        server = DrainingServer(app, settings)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            until(lambda: server.started, "the API answers", 30)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
