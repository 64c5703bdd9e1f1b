"""Serves the API over HTTP, and drains it. Run it with `python -m app.serve --host 127.0.0.1 --port 8000`.

`uvicorn app.main:create_app --factory` serves the same app; this adds what lies below ASGI: chunks are written to the
socket where they are heard, open streams end with a `retry:` when the process is asked to stop, a viewer whose side of
the connection is dead is noticed, and connections and requests are bounded. Without API keys it serves loopback alone.
"""

import argparse
import socket

import uvicorn
from fastapi import FastAPI

from app.api.access import is_loopback
from app.intake import Bounds, guarded
from app.main import create_app
from app.settings import Settings, load_settings
from app.telemetry import logs

HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
"""Of every answer: a browser shows it as what it is, in no frame, and to no page of another origin."""
MARGIN_S = 3
"""From the last view's end to the end of everything else."""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that tells the app when it begins to stop: new connections are refused from then on."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        self._app = app
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=guarded(Bounds(settings.max_connections, settings.request_timeout_s)),
                ws="none",
                headers=HEADERS,
                server_header=False,
                access_log=False,
                log_config=None,
                timeout_graceful_shutdown=round(settings.api_drain_s) + MARGIN_S,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the views run to the deadline and end them, then stop."""
        self._app.state.services.drain.begin()
        await super().shutdown(sockets)


def listen(host: str, port: int, write_timeout_s: float) -> socket.socket:
    """Open the listening socket. Raises `OSError`.

    Each connection inherits TCP_USER_TIMEOUT (RFC 5482): the kernel ends one whose other side has acknowledged
    nothing, or made no room, for so long, as when a laptop was closed; no code of ours looks at the clock per chunk.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(write_timeout_s * 1000))
    listener.bind((host, port))
    return listener


def may_listen(settings: Settings, host: str) -> bool:
    """Tell whether those who would be served there are known, or meant."""
    return bool(settings.api_keys) or settings.open or is_loopback(host)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Serve the streamgauge API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    settings = load_settings()
    logs.configure(settings)
    if not may_listen(settings, arguments.host):
        raise SystemExit(
            f"Without API keys, everybody who reaches {arguments.host} could read and write everything. Set "
            "STREAMGAUGE_API_KEYS (`streamgauge key NAME` makes one), or STREAMGAUGE_OPEN=true to serve everybody."
        )
    try:
        listener = listen(arguments.host, arguments.port, settings.write_timeout_s)
    except OSError as error:
        raise SystemExit(
            f"Can't listen on {arguments.host}:{arguments.port}: {error}. Choose another --port."
        ) from None
    with listener:
        DrainingServer(create_app(settings), settings).run(sockets=[listener])


if __name__ == "__main__":
    main()
