"""What can be seen of the system from beside it: its own `/metrics`, and what its processes use."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.request import Request, urlopen

import psutil

from loadtest.bench.processes import cpu_s

SCRAPE_S = 5.0
TOTALS = ("_sum", "_count", "_total")


@dataclass(frozen=True)
class System:
    """Where to look; whatever is left out is not looked at. `processes` are ids by name (worker-1, api-1, …)."""

    metrics_urls: Sequence[str] = ()
    processes: Mapping[str, int] = field(default_factory=dict)

    def totals(self) -> dict[str, float] | None:
        """Every counter, and every histogram's sum and count, added up over the processes; null if one is away.

        A scrape costs a Python process some milliseconds of its loop, so it is made only between blocks.
        """
        if not self.metrics_urls:
            return None
        found: dict[str, float] = {}
        try:
            for url in self.metrics_urls:
                with urlopen(Request(url), timeout=SCRAPE_S) as answer:  # noqa: S310
                    for name, value in parsed(answer.read().decode()).items():
                        found[name] = found.get(name, 0.0) + value
        except (OSError, ValueError):
            return None
        return found

    def cpu_s(self) -> dict[str, float] | None:
        """Processor seconds used so far, by process with its children; null if one has ended: its owner says so."""
        if not self.processes:
            return None
        with contextlib.suppress(psutil.Error):
            used = cpu_s(list(self.processes.items()))
            return {name: used[name] for name in self.processes}
        return None


def parsed(text: str) -> dict[str, float]:
    """The totals of ours in Prometheus' text format, by name and labels as they stand there."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("streamgauge_"))
    return {name: float(value) for name, _, value in lines if name.partition("{")[0].endswith(TOTALS)}


def kind_of(process: str) -> str:
    """`worker-1` and `worker-2` are of the kind `worker`."""
    return process.partition("-")[0]
