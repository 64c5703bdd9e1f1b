"""ops/scaling.md: its costs are the measured ones, and its sums are right."""

import math
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "ops/scaling.md").read_text()
RESULTS = (ROOT / "loadtest/bench/RESULTS.md").read_text()
UTILISATION, RATE = 0.6, 20


def measured() -> dict[str, str]:
    """The newest row of pubsub at 300 streams, by column."""
    table = RESULTS.partition("**300 streams × 20 deltas/s**")[2]
    header = re.search(r"^\|  \|(.*)\|$", table, re.MULTILINE)
    row = re.search(r"^\| pubsub \|(.*)\|$", table, re.MULTILINE)
    assert header
    assert row
    names, values = ([cell.strip() for cell in found[1].split("|")] for found in (header, row))
    return dict(zip(names, values, strict=True))


def test_costs_are_the_measured_ones_and_sums_are_right() -> None:
    """Streams × rate × µs, and divided by how busy a process may be."""
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \| ([\d.,]+) \| ([\d,]+) \| ([\d.,]+) \| ([\d,]+) \|$", TEXT, re.MULTILINE
    )
    assert [row[0] for row in rows] == ["worker", "api", "valkey", "postgres"]
    for kind, cost, *sums in rows:
        assert cost == measured()[f"{kind} µs"]
        for streams, cores, processes in zip((100_000, 1_000_000), sums[::2], sums[1::2], strict=True):
            busy = streams * RATE * float(cost) / 1e6
            assert float(cores.replace(",", "")) == round(busy, 1)
            assert int(processes.replace(",", "")) == math.ceil(round(busy / UTILISATION, 6))


def test_it_says_where_the_measurement_ends() -> None:
    """Nobody should take a sum for a run."""
    assert "**extrapolated**" in TEXT
    assert f"{measured()['deltas/s']}\ndeltas/s delivered" in TEXT
