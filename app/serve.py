"""Serves the API over HTTP, and drains it. Run it with `python -m app.serve --host 127.0.0.1 --port 8000`.

`uvicorn app.main:create_app --factory` serves the same app; this adds what lies below ASGI: chunks are written to the
socket where they are heard, open streams end with a `retry:` when the process is asked to stop, and a viewer whose side
of the connection is dead is noticed.
"""

import argparse
import socket

import uvicorn
from fastapi import FastAPI

from app.main import create_app
from app.outlet import SocketProtocol
from app.settings import Settings, load_settings
from app.telemetry import logs

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
                http=SocketProtocol,
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


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Serve the streamgauge API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    settings = load_settings()
    logs.configure(settings)
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
