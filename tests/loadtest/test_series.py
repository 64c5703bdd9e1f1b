"""What the plots show is what was recorded: exact ranks, nothing smoothed, nothing lost left out."""

import msgspec
import pytest

from loadtest import series, summary
from loadtest.clock import Offset
from loadtest.plots.scales import Linear, Log, Tail, above, around
from loadtest.series import Moment, Sample
from tests.support.stream_rows import MS, intact

HERE = Offset(True, 0, 0)


def sample(count: int = 1000, lost: int = 0) -> Sample:
    return Sample([index / 1000 for index in range(1, count + 1)], lost)


def test_a_percentile_curve_goes_through_exact_ranks() -> None:
    """From the least to the one value above which there is no other."""
    curve = series.by_percentile(sample())
    assert curve[0] == (0.0, 0.001)
    assert curve[-1][0] == pytest.approx(99.9)
    assert all(at == pytest.approx(percent / 100, abs=0.0011) for percent, at in curve if at is not None)


def test_what_was_lost_ends_the_curves_early() -> None:
    """A tenth lost: the percentile curve ends at p90, the cumulative one at 90 per cent."""
    found = sample(900, lost=100)
    assert series.by_percentile(found)[-1][0] == pytest.approx(90, abs=0.5)
    assert series.cumulative(found)[-1] == (0.9, 90.0)
    assert series.at_percentile(found, 95) is None
    assert series.at_percentile(found, 50) == 0.5
    assert (series.by_percentile(Sample([], 5)), series.cumulative(Sample([], 5))) == ([], [])


def test_a_broken_streams_chunks_count_as_lost() -> None:
    """As in the tables."""
    whole, broken = intact(latency_ms=5), msgspec.structs.replace(intact(), outcome="failed", error="cut")
    found = series.deliveries(summary.measure([whole, broken]), HERE)
    assert found.values == pytest.approx([0.005] * 5)
    assert found.lost == 5


def test_blocks_are_joined_end_to_end() -> None:
    """The time in which another backend had its turn is not shown."""
    streams = summary.measure([intact(block=2, latency_ms=5), intact(block=9, latency_ms=7)])
    joined, begins = series.moments(streams, HERE)
    assert begins == pytest.approx([0, 0.2, 0.4])
    assert joined[0] == pytest.approx(Moment(0, 0.005))
    assert joined[5] == pytest.approx(Moment(0.2, 0.007))


def test_cells_count_every_chunk_once() -> None:
    """Also those on an edge, and those beyond."""
    found = [Moment(0, 0.001), Moment(0.5, 0.01), Moment(1, 0.1), Moment(1, 5.0)]
    cells = series.cells(found, 1.0, (0.001, 0.1), 2, 2)
    assert cells.counts == [[1, 0], [0, 3]]


def test_open_streams_are_the_most_of_each_bin() -> None:
    """And a bin without any interrupts the line."""
    first = intact(block=0)
    began = first.opened_ns or 0
    second = msgspec.structs.replace(first, opened_ns=began + 100 * MS, closed_ns=began + 200 * MS)
    third = msgspec.structs.replace(first, opened_ns=began + 3000 * MS, closed_ns=began + 3100 * MS)
    points = series.open_streams([first, second, third], began, 1.0)
    assert points == [(0.0, 2), (1.0, 2), (1.0, None), (3.0, 1), (4.0, 1)]
    assert series.open_streams([], began, 1.0) == []


def test_throughput_counts_content_only() -> None:
    """Five chunks in a second; the terminal is none."""
    row = intact(block=0, latency_ms=5)
    assert series.chunks_per_second([row], row.intended_ns, 1.0) == [(0.0, 5), (1.0, 5)]


def test_a_logarithmic_axis_gives_equal_ratios_equal_lengths() -> None:
    """And has a labelled line at every power of ten."""
    axis = Log(0.001, 1, 0, 300, lambda value: f"{value:g}")
    assert [axis.at(0.01), axis.at(0.1)] == pytest.approx([100, 200])
    assert [tick.label for tick in axis.ticks() if not tick.minor] == ["0.001", "0.01", "0.1", "1"]
    assert axis.at(0) == 0


def test_a_tail_axis_gives_each_nine_the_same_length() -> None:
    """As HDR plots do."""
    axis = Tail(99.9, 0, 300)
    assert [tick.at for tick in axis.ticks()] == pytest.approx([0, 30.1, 100, 200, 300], abs=0.1)


@pytest.mark.parametrize(("value", "edge"), [(10, 12), (205, 250), (0.3, 0.35), (0, 0), (1, 1.2)])
def test_the_upper_edge_leaves_room(value: float, edge: float) -> None:
    """A little more than the value, and round."""
    assert above(value) == pytest.approx(edge)


def test_edges_around_values_are_round() -> None:
    """The nearest 1, 2 or 5 outside."""
    assert list(around([0.0003, 0.34])) == pytest.approx([0.0002, 0.5])
    low, high = around([1.0])
    assert low < 1 < high
    assert Linear(0, 0, 0, 100, str).at(0) == 0
