"""How far the server's wall clock is from ours, and how wrong that can be.

On one host every process reads the same clock and the offset is zero by construction. Between hosts the difference of
two bare clocks means nothing, so `/clock` is asked and the offset comes with its bound.
"""

import http.client
import ipaddress
import json
import time
from urllib.parse import urlsplit

import msgspec

ROUNDS = 15


class Offset(msgspec.Struct, frozen=True):
    """Add `offset_ns` to a server instant to get ours; the truth lies within `bound_ns` of it."""

    same_host: bool
    offset_ns: int
    bound_ns: int


def offset(target: str) -> Offset:
    """Zero for a loopback target, else the best of a few handshakes (the one with the shortest round trip)."""
    parts = urlsplit(target)
    if _is_loopback(parts.hostname or ""):
        return Offset(same_host=True, offset_ns=0, bound_ns=0)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=10)
    try:
        return min((_handshake(connection, parts.path) for _ in range(ROUNDS)), key=lambda one: one.bound_ns)
    finally:
        connection.close()


def estimate(asked_ns: int, received_ns: int, sent_ns: int, answered_ns: int) -> Offset:
    """The offset from one handshake: at worst, one way took no time and the other took all of it."""
    ours_minus_theirs = (asked_ns - received_ns + answered_ns - sent_ns) // 2
    return Offset(
        same_host=False,
        offset_ns=ours_minus_theirs,
        bound_ns=max(0, answered_ns - asked_ns - (sent_ns - received_ns)) // 2,
    )


def _handshake(connection: http.client.HTTPConnection, path: str) -> Offset:
    asked_ns = time.time_ns()
    connection.request("GET", f"{path.rstrip('/')}/clock")
    answer = connection.getresponse()
    body = answer.read()
    answered_ns = time.time_ns()
    if answer.status != 200:
        raise ConnectionError(f"GET /clock answered {answer.status}: is this target a streamgauge server?")
    clock = json.loads(body)
    return estimate(asked_ns, int(clock["received_ns"]), int(clock["sent_ns"]), answered_ns)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
