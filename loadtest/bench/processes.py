"""What processes have used, by the name of their kind."""

import contextlib
from collections.abc import Callable

import psutil


def cpu_s(pids: list[tuple[str, int]]) -> dict[str, float]:
    """Give the processor seconds used so far by the processes of each name with their children, and by this one."""
    used = {"client": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in pids:
        # All four fields: what a child used that ended meanwhile is with its parent then.
        used[name] = used.get(name, 0) + _of_family(pid, lambda one: sum(one.cpu_times()[:4]))
    return used


def rss_bytes(pids: list[tuple[str, int]]) -> dict[str, int]:
    """Give the resident memory of the processes of each name with their children."""
    found: dict[str, int] = {}
    for name, pid in pids:
        found[name] = found.get(name, 0) + round(_of_family(pid, lambda one: one.memory_info().rss))
    return found


def _of_family(pid: int, figure: Callable[[psutil.Process], float]) -> float:
    """Add a figure up over a process and its children; a child that ends meanwhile, as a database's do, has none."""
    parent = psutil.Process(pid)
    total = figure(parent)
    for child in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += figure(child)
    return total
