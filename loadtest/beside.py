"""Other loads of streamgauge on this machine: two at once take each other's processor, and no share of it says why."""

import os

import psutil

PLAYER = "loadtest/scenarios/player.py"
"""What plays a plan, as its command line has it: see `generator`."""


def other_loads() -> list[int]:
    """The ids of load generators that play another plan than this process's own, those of one team as one."""
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    parents = {
        each.pid: each.info["ppid"]
        for each in psutil.process_iter(["ppid", "cmdline"])
        if each.pid not in own and _plays(each.info["cmdline"] or [])
    }
    return sorted(pid for pid, parent in parents.items() if parent not in parents)


def _plays(command: list[str]) -> bool:
    """Whether it has a plan; a worker that joins has none of its own."""
    return "--plan" in command and any(part.partition(",")[0].endswith(PLAYER) for part in command)
