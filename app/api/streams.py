"""A stream as Server-Sent Events, and its cancellation."""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.dependencies import Open
from app.delivery import NothingLeftError, UnknownStreamError, View, retry_line
from app.draining import Drain
from app.streaming.contract import StreamMissingError
from app.telemetry import metrics

router = APIRouter(prefix="/stream", tags=["streams"])


class EventStream(Response):
    """A view as a raw ASGI response: one `send` a batch, ended by the terminal, the viewer's leaving, or a drain."""

    media_type = "text/event-stream"

    def __init__(self, view: View, drain: Drain) -> None:
        super().__init__(headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._view, self._drain = view, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Serve the view; a viewer who leaves is let go at once, and cancels nothing."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with self._view.traced(), metrics.VIEWERS.labels(self._view.backend).track_inprogress():
            await self._serve(receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        sending, leaving = asyncio.create_task(self._send_all(send)), asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving, self._drain.over}, return_when=asyncio.FIRST_COMPLETED)
            is_cut = self._drain.over.done() and not sending.done() and not leaving.done()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            results = await asyncio.gather(sending, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
        if is_cut:
            await send({"type": "http.response.body", "body": retry_line(), "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async for data in self._view.frames():
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@router.get(
    "/{task_id}",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "The terminal was seen: nothing is left"},
    },
)
async def follow_stream(
    services: Open,
    task_id: UUID,
    last_event_id: Annotated[
        str | None, Query(description="Where to resume, for clients that can't set a header")
    ] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Follow a stream from its beginning, or from after `Last-Event-ID`, until its terminal."""
    try:
        seen = last_event_id_header if last_event_id_header is not None else last_event_id
        return EventStream(await services.delivery.join(task_id, seen), services.drain)
    except UnknownStreamError:
        raise _unknown(task_id) from None
    except NothingLeftError:
        return Response(status_code=204)


class Cancelling(BaseModel):
    """The stream's state when the cancel arrived; an `open` one will end with `cancelled`."""

    task_id: UUID
    state: str


@router.post("/{task_id}/cancel", status_code=202)
async def cancel_stream(services: Open, task_id: UUID) -> Cancelling:
    """Ask for a stream to stop. Harmless when it is over, or asked twice."""
    pin = await services.records.pin(task_id)
    if pin is None:
        raise _unknown(task_id)
    try:
        state = await services.backends.writers[pin.backend].cancel(task_id)
    except StreamMissingError:
        state = pin.message.status
    return Cancelling(task_id=task_id, state=state)


def _unknown(task_id: UUID) -> HTTPException:
    return HTTPException(404, f"There is no stream {task_id}; POST /conversations/{{id}}/messages makes one.")
