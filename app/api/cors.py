"""Pages of other origins: nobody's may read an answer, but those that the settings name."""

from collections.abc import Iterable

from fastapi import FastAPI, Request
from starlette.middleware.cors import CORSMiddleware

from app.api.dependencies import BACKEND_HEADER

ALLOWED = ("Authorization", "Content-Type", "Last-Event-ID", BACKEND_HEADER)
EXPOSED = (BACKEND_HEADER, "Retry-After")
PREFLIGHT_S = 600


def install(app: FastAPI, origins: tuple[str, ...]) -> None:
    """Let pages of these origins ask with a key; no cookie goes along, so what they may is what their key may."""
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=ALLOWED,
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_S,
        )


def stream_headers(request: Request, origins: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """Give what the middleware would add to a stream, which is served past it."""
    origin = request.headers.get("origin", "")
    if origin not in origins:
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", ", ".join(EXPOSED).encode()),
        (b"vary", b"Origin"),
    ]
