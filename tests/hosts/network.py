"""Hosts of a test's own: Linux network namespaces on one switch, whose links are cut without a word to either side.

Nothing of it is in this machine's own network: the switch is in a namespace as well, and the test itself is a host.
"""

import contextlib
import ctypes
import os
import secrets
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CLONE_NEWNET = 0x40000000
PREFIX = "streamgauge-test"
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Host:
    """A namespace with one link to the switch."""

    name: str
    number: int
    namespace: str
    switch: str

    @property
    def address(self) -> str:
        return f"10.213.0.{self.number}"

    @property
    def port(self) -> str:
        """The switch's side of its link."""
        return f"port-{self.number}"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread make its sockets, and start its processes, on this host for the length of the block."""
        before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        here = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            _enter(here)
            yield
        finally:
            _enter(before)
            os.close(here)
            os.close(before)

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """Pull its cable for the length of the block; nobody is told, and every connection stays open."""
        ip("-n", self.switch, "link", "set", self.port, "down")
        try:
            yield
        finally:
            ip("-n", self.switch, "link", "set", self.port, "up")


@contextlib.contextmanager
def parted(*hosts: Host) -> Iterator[None]:
    """Drop every packet between these hosts for the length of the block; each reaches all others."""
    with contextlib.ExitStack() as healing:
        for host in hosts:
            healing.callback(_isolate, host, "off")
            _isolate(host, "on")
        yield


@contextlib.contextmanager
def network(*names: str) -> Iterator[dict[str, Host]]:
    """Make these hosts, by name; nothing of them outlives the block."""
    switch = f"{PREFIX}-{secrets.token_hex(4)}"
    hosts = {name: Host(name, number, f"{switch}-{name}", switch) for number, name in enumerate(names, 1)}
    with contextlib.ExitStack() as removing:
        for namespace in (switch, *(host.namespace for host in hosts.values())):
            ip("netns", "add", namespace)
            removing.callback(ip, "netns", "del", namespace)
        ip("-n", switch, "link", "add", "switch", "type", "bridge")
        ip("-n", switch, "link", "set", "switch", "up")
        for host in hosts.values():
            _connect(host, hosts.values())
        yield hosts


def ip(*arguments: str, batch: Iterable[str] = ()) -> None:
    """Run `ip`, or a batch of its commands; raises with what it said."""
    command = ["ip", *arguments, *(("-batch", "-") if batch else ())]
    done = subprocess.run(command, input="\n".join(batch), capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def _connect(host: Host, others: Iterable[Host]) -> None:
    """Lay its cable, and tell it for good where the others are.

    Else it would ask, get no answer, and know at once that they are away. Behind a router nobody learns that.
    """
    link = f"link add eth0 netns {host.namespace} address {_hardware(host)} type veth"
    ip(batch=[f"{link} peer name {host.port} netns {host.switch}"])
    ip("-n", host.switch, "link", "set", host.port, "master", "switch", "up")
    setting_up = [f"address add {host.address}/24 dev eth0", "link set lo up", "link set eth0 up"]
    known = [
        f"neighbour add {other.address} lladdr {_hardware(other)} dev eth0 nud permanent"
        for other in others
        if other is not host
    ]
    ip("-n", host.namespace, batch=[*setting_up, *known])


def _isolate(host: Host, value: str) -> None:
    ip("-n", host.switch, "link", "set", host.port, "type", "bridge_slave", "isolated", value)


def _hardware(host: Host) -> str:
    return f"02:00:00:00:00:{host.number:02x}"


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
