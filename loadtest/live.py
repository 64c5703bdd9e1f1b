"""Which events a viewer saw as they were made, and which had waited for it: pure."""

from loadtest.clock import Offset
from loadtest.recorder import StreamRow


def live(row: StreamRow, offset: Offset) -> list[bool]:
    """One truth an event. What was made before a later viewer had joined, or while one was away, it caught up with:
    how old that was says nothing of the system.
    """
    since_ns = row.opened_ns if row.viewer and row.opened_ns else 0
    if not since_ns and not row.resumes:
        return [True] * len(row.kinds)
    connections = [(0, since_ns), *((one.events_before, one.opened_ns) for one in row.resumes)]
    ends = [*(start for start, _ in connections[1:]), len(row.kinds)]
    return [
        made_ns + offset.offset_ns >= opened_ns
        for (start, opened_ns), end in zip(connections, ends, strict=True)
        for made_ns in row.produced_ns[start:end]
    ]
