"""A real Valkey Cluster for a test: three nodes from the wheel, whose slots can be moved while streams are on them."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis

from app.streaming.cluster import SLOTS, slot_of
from ops.ports import free_port
from tests.support.valkey import RunningValkey, running_valkey
from tests.support.waiting import until

_connection: Any = redis.Connection  # redis-py has no types here
OPTIONS = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "4000")


@dataclass(frozen=True)
class RunningCluster:
    """The nodes; slots are shared out evenly."""

    nodes: list[RunningValkey]

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def owner(self, name: str) -> RunningValkey:
        """The node that holds this key or channel, by what all nodes say."""
        (port,) = {self._port_of(slot_of(name), node) for node in self.nodes}
        return next(node for node in self.nodes if node.port == port)

    def move(self, name: str, target: RunningValkey) -> None:
        """Move the slot of a name, with all that is stored in it, to another node, atomically."""
        slot = slot_of(name)
        call(self.owner(name), "CLUSTER MIGRATESLOTS SLOTSRANGE", slot, slot, "NODE", node_id(target))
        until(lambda: self._agree(slot, target.port), f"slot {slot} is at port {target.port}")

    def _agree(self, slot: int, port: int) -> bool:
        return all(self._port_of(slot, node) == port for node in self.nodes)

    @staticmethod
    def _port_of(slot: int, asked: RunningValkey) -> int:
        ranges = call(asked, "CLUSTER SLOTS")
        return next(int(primary[1]) for first, last, primary, *_ in ranges if first <= slot <= last)


def call(node: RunningValkey, *command: Any) -> Any:
    """Send one command to one node, wherever its slots are."""
    connection: Any = _connection(port=node.port, decode_responses=True)
    try:
        connection.send_command(*str(command[0]).split(), *command[1:])
        return connection.read_response()
    finally:
        connection.disconnect()


def node_id(node: RunningValkey) -> str:
    return str(call(node, "CLUSTER MYID"))


@contextlib.contextmanager
def running_cluster(size: int = 3) -> Iterator[RunningCluster]:
    """A cluster for the length of the block; it leaves neither process nor file."""
    with contextlib.ExitStack() as stack:
        ports = list(itertools.islice(unique_ports(), 2 * size))
        nodes = [
            stack.enter_context(running_valkey(options=(*OPTIONS, "--cluster-port", str(bus)), port=port))
            for port, bus in zip(ports[:size], ports[size:], strict=True)
        ]
        bounds = [round(SLOTS * place / size) for place in range(size + 1)]
        for place, (node, bus) in enumerate(zip(nodes, ports[size:], strict=True)):
            call(node, "CLUSTER SET-CONFIG-EPOCH", place + 1)
            call(node, "CLUSTER ADDSLOTSRANGE", bounds[place], bounds[place + 1] - 1)
            call(nodes[0], "CLUSTER MEET", "127.0.0.1", node.port, bus)
        until(lambda: all(len(call(node, "CLUSTER SLOTS")) == size for node in nodes), "the nodes know each other")
        until(
            lambda: all("cluster_state:ok" in str(call(node, "CLUSTER INFO")) for node in nodes), "all slots are served"
        )
        yield RunningCluster(nodes)


def unique_ports() -> Iterator[int]:
    seen = set[int]()
    while True:
        port = free_port()
        if port not in seen:
            seen.add(port)
            yield port
