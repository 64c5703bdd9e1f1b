"""How much of the machine's processor time programs took that are no part of the run: pure."""

import os
from collections.abc import Sequence

from loadtest.host import HostSample
from loadtest.recorder import GeneratorRow
from loadtest.usage import BlockCounters

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def others_share(
    counters: Sequence[BlockCounters], host: Sequence[HostSample], generator: Sequence[GeneratorRow]
) -> float | None:
    """From the end of the first block to the end of the last, where all are at work and nothing is just starting.

    Null where the system's processes are not all in sight, or run on another machine.
    """
    if len(counters) < 2 or len(host) < len(counters) + 1:
        return None
    began, ended = counters[0].after.cpu_s, counters[-1].after.cpu_s
    first, last = host[1], host[len(counters)]  # one was taken before the load, then one after each block
    ticks = _grown(first.cpu_ticks, last.cpu_ticks)
    if not began or not ended or not ticks:
        return None
    unused = sum(
        _grown(*pair) or 0 for pair in ((first.idle_ticks, last.idle_ticks), (first.steal_ticks, last.steal_ticks))
    )
    own_s = sum(ended.values()) - sum(began.values())
    own_s += (last.watcher_cpu_ns - first.watcher_cpu_ns) / 1e9
    own_s += sum(row.cpu_ns for row in generator if row.block > counters[0].block) / 1e9
    return max(0.0, 1 - (unused + own_s * TICKS_PER_S) / ticks)


def _grown(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
