"""What processes have used, by the name of their kind."""

from collections.abc import Iterator

import psutil


def cpu_s(pids: list[tuple[str, int]]) -> dict[str, float]:
    """Give the processor seconds used so far by the processes of each name with their children, and by this one."""
    used = {"client": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in pids:
        # All four fields: what a child used that ended meanwhile is with its parent then.
        used[name] = used.get(name, 0) + sum(sum(one.cpu_times()[:4]) for one in _family(pid))
    return used


def rss_bytes(pids: list[tuple[str, int]]) -> dict[str, int]:
    """Give the resident memory of the processes of each name with their children."""
    found: dict[str, int] = {}
    for name, pid in pids:
        found[name] = found.get(name, 0) + sum(one.memory_info().rss for one in _family(pid))
    return found


def _family(pid: int) -> Iterator[psutil.Process]:
    parent = psutil.Process(pid)
    yield parent
    yield from parent.children(recursive=True)
