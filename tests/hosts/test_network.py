"""What the other tests here stand on: hosts that are cut off in silence, and of which nothing stays."""

import contextlib
import socket
from pathlib import Path

import pytest

from tests.hosts.network import Host, network, parted
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("may_make_hosts")


def test_hosts_that_are_parted_hear_nothing_of_it() -> None:
    """The connection stays open, what is sent meanwhile comes late, and a third host reaches both."""
    with network("one", "two", "three") as hosts:
        listener = listening(hosts["one"])
        with listener, joined(hosts["two"], listener) as two, listener.accept()[0] as at_one:
            with parted(hosts["one"], hosts["two"]):
                two.send(b"late")
                with joined(hosts["three"], listener) as three, listener.accept()[0] as at_third:
                    three.send(b"at once")
                    assert at_third.recv(16) == b"at once"
                at_one.setblocking(False)
                with pytest.raises(BlockingIOError):
                    at_one.recv(16)
            at_one.settimeout(10)
            assert at_one.recv(16) == b"late"


def test_nothing_of_them_stays() -> None:
    """Also when the block fails."""
    with contextlib.suppress(LookupError), network("one") as hosts:
        made = [Path("/run/netns", name) for name in (hosts["one"].namespace, hosts["one"].switch)]
        assert all(path.exists() for path in made)
        raise LookupError
    until(lambda: not any(path.exists() for path in made), "they are gone")


def listening(host: Host) -> socket.socket:
    with host.inside():
        listener = socket.create_server((host.address, 7000))
    listener.settimeout(10)
    return listener


def joined(host: Host, listener: socket.socket) -> socket.socket:
    with host.inside():
        return socket.create_connection(listener.getsockname(), timeout=10)
