"""A stream as Server-Sent Events, and its cancellation."""

import asyncio
import logging
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, HTTPException, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from app.api.access import Owner, Viewer
from app.api.cors import stream_headers
from app.api.dependencies import BACKEND_HEADER, Open, Services
from app.api.limits import Limits, OverLimitError
from app.api.problems import over_limit
from app.delivery import NothingLeftError, UnknownStreamError
from app.draining import Drain
from app.frames import retry_line
from app.outlet import Outlet, outlet_of
from app.streaming.contract import StreamMissingError
from app.telemetry import logs
from app.view import View

log = logging.getLogger(__name__)

router = APIRouter(prefix="/stream", tags=["streams"])

LATER = "streamgauge.later"
"""Where a scope keeps what is to be served once the framework is done with the request."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


EVENT = {
    "type": "object",
    "description": "One event; `data` is a record in JSON (docs/http.md). A `reset` of the server's own has no id.",
    "properties": {"id": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
    "required": ["data"],
}


class EventStream(Response):
    """A view as a response, ended by the terminal, the viewer's leaving, or a drain.

    It is served after the framework is done with the request: for as long as a stream lives, no frame of the
    framework's does, and nothing wraps `send`.
    """

    media_type = "text/event-stream"

    def __init__(self, view: View, services: Services, owner: str | None, request: Request) -> None:
        super().__init__()
        headers = stream_headers(request, services.settings.cors_origins)
        self._serving = Serving(view, services.drain, services.limits, owner, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Leave the serving for later."""
        scope[LATER].append(self._serving)


class Serving:
    """What is left of a response while its stream lives."""

    __slots__ = ("_drain", "_headers", "_limits", "_owner", "_view")

    def __init__(
        self, view: View, drain: Drain, limits: Limits, owner: str | None, headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._view, self._drain, self._limits, self._owner = view, drain, limits, owner
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the view, unless its owner has opened too many others by now."""
        try:
            with self._limits.stream(self._owner):
                await self._serve(scope, receive, send)
        except OverLimitError as error:
            await over_limit(error)(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the view; a viewer who leaves is let go at once, and cancels nothing."""
        headers = [*HEADERS, (BACKEND_HEADER.lower().encode(), self._view.backend.encode()), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        outlet = outlet_of(scope, receive, send)
        with self._view.traced():
            is_whole = await self._is_served(outlet)
        log.debug("a viewer saw the stream's end" if is_whole else "a viewer was let go before the stream's end")
        if not is_whole and not self._drain.is_over:
            return  # the viewer has left
        if not is_whole:
            await outlet.send(retry_line())
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _is_served(self, outlet: Outlet) -> bool:
        """Send the whole stream; False when the viewer left, or the drain was over, before its end."""
        until = asyncio.timeout(None)  # none but these two set it

        def end() -> None:
            if not until.expired():
                until.reschedule(0)

        try:
            async with until:
                try:
                    self._drain.enter(end)
                    outlet.watch(end)
                    await self._view.serve(outlet)
                finally:
                    outlet.forget()
                    self._drain.leave(end)
        except TimeoutError:
            if until.expired():
                return False
            raise
        return True


@router.get(
    "/{task_id}",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {"content": {"text/event-stream": {"schema": EVENT}}},
        204: {"description": "The terminal was seen: nothing is left"},
    },
)
async def follow_stream(
    services: Open,
    request: Request,
    viewer: Viewer,
    task_id: UUID,
    last_event_id: Annotated[
        str | None, Query(description="Where to resume, for clients that can't set a header")
    ] = None,
    last_event_id_header: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Follow a stream from its beginning, or from after `Last-Event-ID`, until its terminal."""
    services.limits.check_streams(viewer)
    try:
        seen = last_event_id_header or last_event_id or None  # an empty one is what a client has that saw none
        return EventStream(await services.delivery.join(task_id, seen, viewer), services, viewer, request)
    except UnknownStreamError:
        raise _unknown(task_id) from None
    except NothingLeftError:
        return Response(status_code=204)


class Cancelling(BaseModel):
    """The stream's state when the cancel arrived; an `open` one ends with `cancelled`, unless all was said by then."""

    task_id: UUID
    state: str


@router.post("/{task_id}/cancel", status_code=202)
async def cancel_stream(services: Open, owner: Owner, task_id: UUID) -> Cancelling:
    """Ask for a stream to stop. Harmless when it is over, or asked twice."""
    pin = await services.records.pin(task_id, owner)
    if pin is None:
        raise _unknown(task_id)
    logs.about(task_id, pin.message_id, pin.backend)
    services.backends.check(pin.backend)
    try:
        state = await services.backends.writers[pin.backend].cancel(task_id)
    except StreamMissingError:
        state = pin.message.status
    return Cancelling(task_id=task_id, state=state)


def _unknown(task_id: UUID) -> HTTPException:
    return HTTPException(404, f"There is no stream {task_id}; POST /conversations/{{id}}/messages makes one.")
