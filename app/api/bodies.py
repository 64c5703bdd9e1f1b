"""Refuses a request's body that is longer than any valid one, before it is held or parsed."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem


class BodyLimit:
    """Answers 413 at once by the length that a request declares, and else as soon as too much has come.

    The server then drops what still comes of it: a connection that is closed in mid-send would cost its caller the
    answer. FastAPI's own `max_body_size` answers the former in plain text, whatever handles its errors.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] == "GET":  # no such route reads a body
            await self._app(scope, receive, send)
        elif _declared_bytes(scope) > self._most_bytes:
            await problem(413, self._detail)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        come = 0

        async def count() -> Message:
            nonlocal come
            message = await receive()
            come += len(message.get("body", b""))
            if come > self._most_bytes:
                raise HTTPException(413, self._detail)
            return message

        return count

    @property
    def _detail(self) -> str:
        return (
            f"A body has at most {self._most_bytes} bytes here, which hold the longest message however it is escaped: "
            "send a shorter one, or raise STREAMGAUGE_MAX_CONTENT_CHARS."
        )


def _declared_bytes(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0
