"""One load against one system, played by the lean client in a process of its own, and what its figures are worth."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from loadtest import host, verdict
from loadtest.clock import Offset
from loadtest.recorder import GeneratorRow
from loadtest.stats import Distribution

ROOT = Path(__file__).parent.parent.parent
STREAM_S = 20.0
TEXTS = 20
LOCAL = Offset(same_host=True, offset_ns=0, bound_ns=0)


class LoadError(RuntimeError):
    """The lean client could not do its work; the message ends with what it said."""


@dataclass(frozen=True)
class System:
    """Something that serves streams on this machine."""

    name: str
    url: str
    processes: Callable[[], Mapping[str, tuple[int, ...]]]
    """Gives the pids of what it consists of at this moment, by their kind."""
    backend: str = ""
    """Forced by a header, where the system has several."""
    keeps_messages: bool = True
    renew: Callable[[], None] = lambda: None
    """Starts its API and workers anew, where others share them: what others left in their heaps would hide its own."""


class Load(msgspec.Struct, frozen=True):
    """So many streams at so many deltas a second each; `turnover` is how long a stream is, None: no end in sight."""

    streams: int
    rate: float
    seconds: float
    ramp: float
    warmup: float = 1.5
    turnover: float | None = STREAM_S

    @property
    def offered(self) -> float:
        """Deltas a second that the model makes."""
        return self.streams * self.rate


class Latency(msgspec.Struct, frozen=True):
    """Seconds; null without a value."""

    count: int
    below_zero: int
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None


class Found(msgspec.Struct, frozen=True):
    """What the client printed. A chunk carries one delta of the model, or several where the system coalesced them."""

    chunks: int
    deltas: int
    deltas_per_s: float
    streams_ended: int
    unfinished: int
    open_streams: int
    delivery_latency_s: Latency
    post_s: Latency
    cpu_s: dict[str, float]
    rss_before: dict[str, int]
    rss_after: dict[str, int]
    texts_checked: int
    broken: int
    first_broken: list[str]
    began_ns: int
    ended_ns: int
    loop_lag_ns: tuple[int, ...]


class Point(msgspec.Struct, frozen=True):
    """A load, what was found, and whether it can be trusted."""

    system: str
    load: Load
    found: Found
    verdict: str
    reasons: list[str]

    @property
    def is_whole(self) -> bool:
        """Tell whether every stream was intact to its end."""
        return not self.found.broken and not self.found.unfinished and self.found.chunks > 0


def play(system: System, load: Load) -> Point:
    """Play the load to its end; leaving early, by whatever error, ends the client. Raises `LoadError`."""
    before = host.sample()
    # In a session of its own: Ctrl-C reaches only us, and we end it.
    client = subprocess.Popen(
        _command(system, load), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        output, errors = client.communicate()
    finally:
        client.kill()
        client.wait()
    if client.returncode:
        raise LoadError(f"the load on {system.name} failed: {errors.decode(errors='replace').strip()[-800:]}")
    found = msgspec.json.decode(output, type=Found)
    judged, reasons = judge(system.name, found, [before, host.sample()])
    return Point(system.name, load, found, judged, reasons)


def judge(name: str, found: Found, samples: list[host.HostSample]) -> tuple[str, list[str]]:
    """The verdict by the same rules as a `bench` run's."""
    account = GeneratorRow(0, found.began_ns, found.ended_ns, round(found.cpu_s["client"] * 1e9), found.loop_lag_ns)
    evidence = verdict.evidence(Distribution(), [account], samples, LOCAL, LOCAL)
    figures: dict[str, Any] = {
        "integrity": {"censored": found.unfinished, "intact": found.streams_ended},
        "delivery_latency_s": {"count": found.chunks, "below_zero": found.delivery_latency_s.below_zero},
    }
    judged, reasons = verdict.judge(evidence, {name: figures}, None, interrupted=False)
    return judged.value, reasons


def _command(system: System, load: Load) -> list[str]:
    pids = [f"--pid={kind}={pid}" for kind, members in system.processes().items() for pid in members]
    options = {
        "streams": load.streams,
        "rate": load.rate,
        "ramp": load.ramp,
        "warmup": load.warmup,
        "seconds": load.seconds,
        "stream-seconds": load.turnover or 1e6,
        "check": TEXTS if system.keeps_messages else 0,
        "backend": system.backend,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "loadtest.bench.client", system.url, *given, *pids]
