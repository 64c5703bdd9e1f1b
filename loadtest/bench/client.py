"""A lean load for the benchmarks: N streams held open, with turnover, by one process.

Locust measures what users see; this costs a few microseconds a chunk, so that on a small machine the system can be
driven to its limits. It speaks the same HTTP as any front end. Waking up for every chunk would cost more than reading
it, so it looks at its sockets every 2 ms; each chunk's instant is the kernel's own stamp of its arrival.

`python -m loadtest.bench.client URL --streams 1000 --backend pubsub --pid worker=123` prints one JSON object.
"""

import argparse
import heapq
import itertools
import math
import random
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import msgspec

from loadtest.bench.processes import cpu_s, rss_bytes
from loadtest.bench.wire import Answer, BrokenError, Stream, Tally

QUESTION = "How high is the river?"
TTFT_S = 0.3
PATIENCE_S = 30.0
"""How long a stream may last beyond its script, and the load beyond its last stream, before it counts as broken."""
AGAIN_S = 0.5
LAG_PROBE_S = 0.02
TICK_S = 0.002
BUFFER = 1 << 16
SO_TIMESTAMPNS = 35
"""Linux stamps what is received with the wall clock, as two 64-bit integers: seconds and nanoseconds."""
STAMP = struct.Struct("qq")
STAMP_SPACE = socket.CMSG_SPACE(STAMP.size)
PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999), ("max", 1.0))


class Visit:
    """One connection: a conversation, a message, and its stream to the end."""

    def __init__(self, load: "Load", chunks: int) -> None:
        self._load, self._chunks = load, chunks
        self.deadline = time.monotonic() + chunks / load.options.rate + PATIENCE_S
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.receive = self.socket.recvmsg_into
        self.reader: Answer | Stream = Answer()
        self._next: Callable[[], None] = self._created
        self.socket.connect_ex(load.address)

    def begin(self) -> None:
        """The connection stands: make a conversation."""
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "connect")
        self._send("POST", "/conversations", b"{}")

    def go_on(self) -> bool:
        """What was asked for is here: ask for the next thing; False after the last one."""
        if self._next == self._over:
            self._over()
            return False
        self._next()
        return True

    def _created(self) -> None:
        assert isinstance(self.reader, Answer)
        self._conversation = msgspec.json.decode(self.reader.body)["id"]
        options = self._load.options
        model = f"{options.model}?ttft={TTFT_S}&gap={1 / options.rate:g}&chunks={self._chunks}"
        self.reader, self._next = Answer(), self._accepted
        self._asked_ns = time.time_ns()
        self._send(
            "POST",
            f"/conversations/{self._conversation}/messages",
            msgspec.json.encode({"content": QUESTION, "model": model}),
            f"X-Streamgauge-Backend: {options.backend}\r\n" if options.backend else "",
        )

    def _accepted(self) -> None:
        assert isinstance(self.reader, Answer)
        task, tally = msgspec.json.decode(self.reader.body)["task_id"], self._load.tally
        if tally.is_open:
            tally.post.append(self.reader.at_ns - self._asked_ns)
        self._keeps_text = len(tally.texts) < self._load.options.check
        if self._keeps_text:
            tally.texts[self._conversation] = ""
        self.reader, self._next = Stream(tally, self._asked_ns, keep_text=self._keeps_text), self._over
        self._send("GET", f"/stream/{task}", b"")

    def _over(self) -> None:
        assert isinstance(self.reader, Stream)
        self._load.tally.ended += 1
        if self._keeps_text:
            self._load.tally.texts[self._conversation] = "".join(self.reader.text)

    def _send(self, method: str, path: str, body: bytes, headers: str = "") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        self.socket.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


class Load:
    """Keeps N streams open against one API, a new one for each that ends."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.tally = options, Tally()
        host, _, port = options.url.removeprefix("http://").partition(":")
        self.address = (host, int(port))
        self._poll = select.epoll()
        self._visits: dict[int, Visit] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._lag_ns: list[int] = []
        self._seen: dict[str, Any] = {}
        self._stops_at = time.monotonic() + options.ramp + options.warmup + options.seconds

    def run(self) -> dict[str, object]:
        """Ramp up, warm up, measure, let everything end, check some texts."""
        options, now = self.options, time.monotonic()
        self._stops_at = now + options.ramp + options.warmup + options.seconds
        rss_before = rss_bytes(options.pid)
        for number in range(options.streams):
            self._at(now + number / options.streams * options.ramp, self._first_visit)
        self._at(now + options.ramp + options.warmup, self._open_window)
        self._at(self._stops_at, self._close_window)
        self._at(now + LAG_PROBE_S, self._probe)
        self._loop()
        unfinished = len(self._visits)
        checked = self._check_texts()
        tally, seconds = self.tally, (self._seen["ended_ns"] - self._seen["began_ns"]) / 1e9
        return {
            "streams": options.streams,
            "backend": options.backend,
            "seconds": seconds,
            "chunks": len(tally.delivery),
            "deltas": tally.deltas,
            "deltas_per_s": tally.deltas / seconds,
            "streams_ended": tally.ended,
            "unfinished": unfinished,
            "delivery_latency_s": percentiles(tally.delivery),
            "ttft_s": percentiles(tally.ttft),
            "post_s": percentiles(tally.post),
            **self._seen,
            "rss_before": rss_before,
            "loop_lag_ns": self._lag_ns,
            "texts_checked": checked,
            "broken": len(tally.broken),
            "first_broken": tally.broken[:3],
        }

    def _loop(self) -> None:
        """Serve sockets and timers until the last stream has ended, or patience has."""
        buffer, visits, poll, timers = bytearray(BUFFER), self._visits, self._poll.poll, self._timers
        buffers, monotonic, ends_at = [buffer], time.monotonic, self._stops_at + PATIENCE_S
        looks_at = monotonic()
        while (visits or monotonic() < self._stops_at) and monotonic() < ends_at:
            time.sleep(max(0.0, looks_at - monotonic()))
            looks_at = monotonic() + TICK_S
            for fd, mask in poll(0):
                visit = visits[fd]
                try:
                    if mask & select.EPOLLOUT:
                        self._poll.modify(fd, select.EPOLLIN)
                        visit.begin()
                        continue
                    size, stamps, _, _ = visit.receive(buffers, STAMP_SPACE)
                    if visit.reader.received(buffer, size, _instant(stamps)) and not visit.go_on():
                        self._leave(visit)
                        self._visit_again()
                except BlockingIOError:
                    continue
                except (BrokenError, OSError, ValueError, KeyError) as error:
                    self._lose(visit, str(error) or type(error).__name__)
            while timers and timers[0][0] <= monotonic():
                heapq.heappop(timers)[2]()

    def _at(self, instant: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (instant, next(self._numbers), action))

    def _first_visit(self) -> None:
        # Shorter than the next ones, so that the ends are spread evenly.
        self._visit(random.randint(1, self._whole()))  # noqa: S311 - load, no secret

    def _visit_again(self) -> None:
        if time.monotonic() < self._stops_at:
            self._visit(self._whole())

    def _whole(self) -> int:
        chunks: float = self.options.stream_seconds * self.options.rate
        return max(1, round(chunks))

    def _visit(self, chunks: int) -> None:
        # Each stream is planned to end with the measurement at the latest: nothing is cut off and nobody waits long.
        left = math.ceil((self._stops_at - time.monotonic() - TTFT_S) * self.options.rate) + 1
        visit = Visit(self, max(1, min(chunks, left)))
        self._visits[visit.socket.fileno()] = visit
        self._poll.register(visit.socket, select.EPOLLOUT)

    def _leave(self, visit: Visit) -> None:
        del self._visits[visit.socket.fileno()]
        visit.socket.close()

    def _lose(self, visit: Visit, why: str) -> None:
        self.tally.broken.append(why)
        self._leave(visit)
        self._at(time.monotonic() + AGAIN_S, self._visit_again)

    def _open_window(self) -> None:
        self._seen = {"began_ns": time.time_ns()}
        self._cpu = cpu_s(self.options.pid)
        self._lag_ns.clear()
        self.tally.is_open = True

    def _close_window(self) -> None:
        self.tally.is_open = False
        after = cpu_s(self.options.pid)
        self._seen |= {
            "ended_ns": time.time_ns(),
            "cpu_s": {name: used - self._cpu[name] for name, used in after.items()},
            "rss_after": rss_bytes(self.options.pid),
            "open_streams": sum(isinstance(visit.reader, Stream) for visit in self._visits.values()),
        }

    def _probe(self, due: float | None = None) -> None:
        """Note how late this loop is: what it adds to the instants it stamps. Give up on streams past hope."""
        now = time.monotonic()
        if due is not None and self.tally.is_open:
            self._lag_ns.append(round((now - due) * 1e9))
        for visit in [one for one in self._visits.values() if one.deadline < now]:
            self._lose(visit, "the stream was not over in time")
        again = now + LAG_PROBE_S
        self._at(again, lambda: self._probe(again))

    def _check_texts(self) -> int:
        """Hold some of the texts against the committed messages; gives how many."""
        whole = {name: text for name, text in self.tally.texts.items() if text}
        for conversation, text in whole.items():
            with urlopen(f"{self.options.url}/conversations/{conversation}", timeout=PATIENCE_S) as found:  # noqa: S310
                committed = msgspec.json.decode(found.read())["messages"][-1]["content"]
            if committed != text:
                self.tally.broken.append(f"the text of conversation {conversation} is not the committed one")
        return len(whole)


def _instant(stamps: list[tuple[int, int, bytes]]) -> int:
    """Give the kernel's stamp; it has none yet for what came while the first socket was asking for them."""
    if not stamps:
        return time.time_ns()
    seconds, nanoseconds = STAMP.unpack(stamps[0][2])
    return int(seconds * 1_000_000_000 + nanoseconds)


def percentiles(values_ns: "array[int]") -> dict[str, float | int | None]:
    """Give exact percentiles (nearest rank) in seconds."""
    ranked = sorted(values_ns)
    named: dict[str, float | int | None] = {"count": len(ranked), "below_zero": sum(one < 0 for one in ranked)}
    for name, share in PERCENTILES:
        named[name] = ranked[max(0, math.ceil(share * len(ranked) - 1e-9) - 1)] / 1e9 if ranked else None
    return named


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="chunks a second, of each stream")
    parser.add_argument("--backend", default="")
    parser.add_argument("--model", default="scripted")
    parser.add_argument("--stream-seconds", type=float, default=20.0)
    parser.add_argument("--ramp", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--check", type=int, default=20, help="how many texts are held against committed messages")
    parser.add_argument("--pid", type=_named_pid, action="append", default=[], help="NAME=PID whose CPU is measured")
    return parser.parse_args()


def _named_pid(text: str) -> tuple[str, int]:
    name, _, pid = text.partition("=")
    return name, int(pid)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.buffer.write(msgspec.json.encode(Load(_arguments()).run()) + b"\n")
