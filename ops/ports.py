"""Loopback ports for the embedded servers, and addresses that may be shown."""

import random
import re
import socket

LOOPBACK = "127.0.0.1"
# Below the ranges from which kernels take the local ports of outgoing connections (Linux 32768+, macOS 49152+): a
# port given here is not lost to a client's connection between this moment and the server's start.
RANGE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """Find a loopback port that nothing listens on."""
    for port in random.SystemRandom().sample(RANGE, 200):
        if is_free(port):
            return port
    raise OSError(f"no free port on {LOOPBACK} between {RANGE.start} and {RANGE.stop}: end what holds them")


def without_password(url: str) -> str:
    """Give a URL as it may be shown."""
    shown = re.sub(r"^([\w+]+://[^:/?#]*):[^/?#]+@", r"\1:…@", url)
    return re.sub(r"(?<=sentinel_password=)[^&#]+", "…", shown)
