"""One viewer of one stream over the wire: follows it, is called at places in it, loses the connection and resumes."""

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gevent
import gevent.socket
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpSession

from loadtest.key import key_headers
from loadtest.recorder import Recording, Resume
from loadtest.scenarios.reader import NEVER, Reader, WireError, noting
from loadtest.viewers import Drop

TRANSPORT_ERRORS: tuple[type[BaseException], ...] = FAILURE_EXCEPTIONS
BACKEND_HEADER = "X-Streamgauge-Backend"
KEY = key_headers()
GOOD_ENDS = ("done", "cancelled")
CUT_OFF = ", cut off by the stop"
"""Such streams have a line of their own in Locust's table."""
# The kernels keep what a viewer does not take: 4 MB as usual, 65 KB with these, before the server has to.
NARROW_BYTES, NARROW_SEGMENT = 2048, 256


class Place(NamedTuple):
    """Something to do, without waiting, once so many events were seen."""

    after: int
    act: Callable[[], object]


def watch(client: FastHttpSession, recording: Recording, places: Sequence[Place] = ()) -> None:
    """Record the stream to its end, however many connections that takes. Raises what broke it."""
    recording.opened_ns = time.time_ns()
    drops = list(recording.viewer.drops)
    waiting = sorted(places, key=lambda place: place.after)
    dropped = _follow(client, recording, waiting, drops)
    while dropped is not None:
        dropped_ns = time.time_ns()
        gevent.sleep(dropped.away_s)
        recording.resumes.append(Resume(dropped_ns, time.time_ns(), recording.events))
        dropped = _follow(client, recording, waiting, drops)


def _follow(client: FastHttpSession, recording: Recording, waiting: list[Place], drops: list[Drop]) -> Drop | None:
    """Follow the stream on one connection, to its end or to the drop that is given back."""
    name = f"GET /stream/[task_id] {recording.arrival.backend}".rstrip()
    # Compression would hold chunks back until a block is full: ask for none.
    headers = {**KEY, "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    if recording.resumes and recording.last_event_id is not None:
        headers["Last-Event-ID"] = recording.last_event_id
    opened_ns = time.time_ns()
    with client.request(
        "GET", f"/stream/{recording.task_id}", name=name, headers=headers, stream=True, catch_response=True
    ) as response:
        try:
            check(response, 200)
            recording.served.append(response.headers.get(BACKEND_HEADER))
            dropped = _read(Reader(response._response, recording, noting(recording)), recording, waiting, drops)
        except BaseException as error:
            note_broken(response, error)
            raise
        finally:
            recording.closed_ns = time.time_ns()
            response.request_meta["response_time"] = (recording.closed_ns - opened_ns) / 1e6
        # Which of them it had to be depends on when a cancel came: `integrity` judges that.
        if dropped is None and (recording.terminal is None or recording.terminal.chunk_type not in GOOD_ENDS):
            response.failure(f"the stream ended with {recording.terminal and recording.terminal.chunk_type}")
    return dropped


def _read(reader: Reader, recording: Recording, waiting: list[Place], drops: list[Drop]) -> Drop | None:
    try:
        if recording.viewer.slow is not None:
            reader.read_slowly(recording.viewer.slow)
            return None
        while not reader.read(_next(waiting, drops)):
            while waiting and waiting[0].after <= recording.events:
                waiting.pop(0).act()
            if recording.terminal is not None:
                drops.clear()  # nothing is left to come back for
            if drops and drops[0].after <= recording.events:
                reader.drop()
                return drops.pop(0)
        return None
    finally:
        recording.comments += reader.comments


def _next(waiting: list[Place], drops: list[Drop]) -> int:
    return min([*(one.after for one in waiting[:1]), *(one.after for one in drops[:1])], default=NEVER)


def note_broken(response: Any, error: BaseException) -> None:
    """Tell Locust, which noted a success when the headers came; what its own stop cut off is none and no failure."""
    if isinstance(error, gevent.GreenletExit):
        response.request_meta["name"] += CUT_OFF
        response.success()
    else:
        response.failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))


def check(response: Any, status: int) -> None:
    """Refuse an answer of another status."""
    if response.status_code != status:
        text = getattr(response, "error", None) or (response.text or "")[:200]
        raise WireError(f"{response.request_meta['request_type']} answered {response.status_code}: {text}")


def narrow(client: FastHttpSession) -> FastHttpSession:
    """Make a session like that one whose connections have small buffers, for a viewer who is to be slow."""
    waits = {"network_timeout": client.user.network_timeout, "connection_timeout": client.user.connection_timeout}
    session = FastHttpSession(client.base_url, client.request_event, client.user, **waits)
    session.client.clientpool.get_client(client.base_url)._connection_pool._create_tcp_socket = _narrow_socket
    return session


def _narrow_socket(family: int, kind: int, protocol: int) -> gevent.socket.socket:
    # Both have to be set before the connection is made, since they are negotiated in it.
    made = gevent.socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, NARROW_SEGMENT)
    return made
