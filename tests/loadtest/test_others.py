"""A run says how much of the machine other programs had."""

import pytest

from loadtest.counters import Counters
from loadtest.host import HostSample
from loadtest.others import TICKS_PER_S, others_share
from loadtest.recorder import GeneratorRow
from loadtest.usage import BlockCounters


def at(number: int, *, idle_s: float) -> HostSample:
    """After so many blocks of ten seconds on two cores; half a second of each is the watcher's own."""
    ticks = 20 * number * TICKS_PER_S
    return HostSample(0, 0, ticks, 0, round(idle_s * number * TICKS_PER_S), 0, watcher_cpu_ns=number * 500_000_000)


def blocks(count: int, cpu_s: float | None) -> list[BlockCounters]:
    used = [None if cpu_s is None else {"api-1": number * cpu_s, "postgres": number * cpu_s} for number in range(count)]
    read = [Counters(0, None, None, None, one) for one in used]
    return [BlockCounters(number, one, one) for number, one in enumerate(read)]


@pytest.mark.parametrize(
    ("cpu_s", "idle_s", "share"),
    [
        (2.0, 14.5, 0.0),  # two processes, half a second of the watcher, one of the generator: all that was busy
        (2.0, 4.5, 0.5),  # ten of twenty seconds are nobody's of ours
        (2.0, 15.5, 0.0),  # ticks are coarse: no less than nothing
        (None, 4.5, None),  # somebody else's system
    ],
)
def test_what_is_busy_and_not_of_the_run_is_of_others(cpu_s: float | None, idle_s: float, share: float | None) -> None:
    """System, load generator and the process that watches them are the run's own."""
    host = [at(number, idle_s=idle_s) for number in range(4)]
    generator = [GeneratorRow(number, 0, 10, 1_000_000_000, ()) for number in range(3)]
    found = others_share(blocks(3, cpu_s), host, generator)
    assert found == (None if share is None else pytest.approx(share))


def test_one_block_tells_nothing() -> None:
    """What starts up in it would count as others'."""
    assert others_share(blocks(1, 2.0), [at(0, idle_s=1.0), at(1, idle_s=1.0)], []) is None
