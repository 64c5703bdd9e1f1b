"""Lets the page pause and restart parts of the stack that `streamgauge up` runs: orders over loopback, with a token.

The API never touches a process. Whoever serves here takes the orders; the thread that owns the stack carries them out,
since Linux ends a process with the thread that started it.
"""

import contextlib
import hmac
import json
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from ops.ports import LOOPBACK
from ops.stack import Stack

PAUSE_S = 5.0
"""Less than a worker's lease, so that no other takes over its streams."""
PATIENCE_S = 60.0
CLIENT_S = 5.0
"""How long a client may take for its request: one waits for the other here."""
END_LOOK_S = 0.05
"""How often it looks whether it is to end, which a command that was refused waits for."""


def pause_workers(stack: Stack) -> None:
    """Stop the clock of every worker for a while (SIGSTOP), and let it go on."""
    workers = [process for name, process in stack.processes.items() if name.startswith("worker")]
    try:
        for process in workers:
            process.pause()
        time.sleep(PAUSE_S)
    finally:
        for process in workers:
            process.resume()


def restart_valkey(stack: Stack) -> None:
    """Restart the chunk store; it comes back empty."""
    stack.restart("valkey")


ORDERS = {"worker/pause": pause_workers, "valkey/restart": restart_valkey}


class Control:
    """Where orders arrive, and the queue from which they are carried out."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._orders: queue.Queue[tuple[str, Future[None]]] = queue.Queue()
        self.possible: tuple[str, ...] = ()
        self.api_urls: list[str] = []
        self._stack: Stack
        self._is_over = False
        self.server = HTTPServer((LOOPBACK, 0), self._handler())

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.server.server_port}/"

    def serve(self, stack: Stack) -> None:
        """Take orders for this stack from now on."""
        self.possible = tuple(name for name in ORDERS if name != "valkey/restart" or "valkey" in stack.processes)
        self.api_urls, self._stack = stack.api_urls, stack

    def obey(self) -> None:
        """Carry out what has been ordered; the thread that owns the stack calls this again and again."""
        try:
            name, done = self._orders.get_nowait()
        except queue.Empty:
            return
        try:
            ORDERS[name](self._stack)
        except BaseException:
            done.cancel()
            raise
        done.set_result(None)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self._is_over = True
        while not self._orders.empty():
            self._orders.get_nowait()[1].cancel()

    def allows_origin(self, origin: str) -> bool:
        """Tell whether a page from there may read our answers: one that an API of ours served on this machine."""
        return origin in {url.replace(LOOPBACK, host) for url in self.api_urls for host in (LOOPBACK, "localhost")}

    def allows(self, authorization: str) -> bool:
        """Tell whether a request carries the token."""
        return hmac.compare_digest(authorization.encode(), b"Bearer " + self._token)

    def order(self, name: str) -> None:
        """Have an order carried out; returns when that is done. Raises `TimeoutError`, or `CancelledError`."""
        done: Future[None] = Future()
        self._orders.put((name, done))
        if self._is_over:
            done.cancel()
        done.result(PATIENCE_S)

    def _handler(self) -> type["Handler"]:
        return type("BoundHandler", (Handler,), {"control": self})


class Handler(BaseHTTPRequestHandler):
    """One request: the list of orders, or one of them."""

    control: Control
    timeout = CLIENT_S

    def do_OPTIONS(self) -> None:
        """Answer a browser that asks whether the page may ask."""
        self._answer(HTTPStatus.NO_CONTENT)

    def do_GET(self) -> None:
        """List what can be ordered here."""
        if self._is_allowed():
            self._answer(HTTPStatus.OK, list(self.control.possible))

    def do_POST(self) -> None:
        """Carry out an order, and answer when it is done."""
        if not self._is_allowed():
            return
        name = self.path.strip("/")
        if name not in self.control.possible:
            self._answer(HTTPStatus.NOT_FOUND, {"detail": f"Here one can ask for {', '.join(self.control.possible)}."})
            return
        try:
            self.control.order(name)
        except TimeoutError:
            detail = {"detail": f"{name} takes longer than {PATIENCE_S:.0f} s: look at the stack's logs."}
            self._answer(HTTPStatus.GATEWAY_TIMEOUT, detail)
        except CancelledError:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"detail": "The stack has stopped; start it anew."})
        else:
            self._answer(HTTPStatus.OK, {"done": name})

    def _is_allowed(self) -> bool:
        if self.control.allows(self.headers.get("Authorization", "")):
            return True
        self._answer(HTTPStatus.UNAUTHORIZED, {"detail": "Open the page by the address that `streamgauge up` printed."})
        return False

    def _answer(self, status: HTTPStatus, told: object = None) -> None:
        body = b"" if told is None else json.dumps(told).encode()
        self.send_response(status)
        origin = self.headers.get("Origin", "")
        if self.control.allows_origin(origin):
            self.send_header("Access-Control-Allow-Origin", origin)
            self.send_header("Access-Control-Allow-Headers", "Authorization")
            self.send_header("Vary", "Origin")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing on the terminal."""


@contextlib.contextmanager
def listening_control(token: str) -> Iterator[Control]:
    """Own a control for the length of the block."""
    control = Control(token)
    thread = threading.Thread(target=control.server.serve_forever, args=(END_LOOK_S,), name="control", daemon=True)
    thread.start()
    try:
        yield control
    finally:
        control.end()
        control.server.shutdown()
        control.server.server_close()
        thread.join()
