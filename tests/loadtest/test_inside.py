"""Where time went, as plots and as pictures: phases and hops that are known, and drawings that stand alone."""

import re
import xml.etree.ElementTree as xml  # noqa: N813
from pathlib import Path

import msgspec
import pytest

from loadtest import bench_page, inside_plots, pictures, plan, recorder, report, waterfall
from loadtest.bench_page import Rows
from loadtest.bench_plots import Shown
from loadtest.clock import Offset
from loadtest.drift import ProcessSample
from loadtest.page import Figure
from loadtest.plots.forest import Line, forest
from loadtest.summary import measure
from tests.support.results import run_of
from tests.support.stream_rows import MS, intact

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
SVG = "{http://www.w3.org/2000/svg}"
HOPS = {
    "polling": {"publish": 0.002, "transit": 0.047, "write": 0.0005, "client": 0.0005},
    "pubsub": {"publish": 0.0006, "transit": -0.0002, "write": 0.0002, "client": 0.0002},
}


def test_a_waterfall_has_the_worst_chunks_first_and_broken_streams_before_them() -> None:
    """Phases count from the POST; a late chunk is found where it came."""
    quick, slow = intact(arrival=1, latency_ms=1), intact(arrival=2, latency_ms=30)
    late = list(quick.received_ns)
    late[3] += 80 * MS
    stalled = msgspec.structs.replace(quick, arrival=3, received_ns=tuple(late))
    cut = msgspec.structs.replace(quick, arrival=4, outcome="failed", error="cut", verified_ns=None)
    found = waterfall.slowest(measure([quick, slow, stalled, cut]), HERE, 3)
    assert [one.arrival for one in found] == [4, 3, 2]
    worst = found[1]
    assert worst.worst_s == pytest.approx(0.081)
    assert worst.worst_at_s == pytest.approx(0.199 + 0.150 + 0.081)
    assert worst.late_s == pytest.approx(0.001)
    # accepted, first content, terminal, read back
    assert worst.ends_s == pytest.approx((0.004, 0.200, 0.450, 0.451))
    assert found[0].ends_s[-1] == found[0].ends_s[-2]  # never read back


def shown(samples: list[ProcessSample], hops: bool = True) -> Shown:
    made = run_of(quartets=2)
    if hops:
        for name, figures in made["backends"].items():
            figures["hops_s"] = HOPS[name]
            figures["cpu_us_per_chunk"] = {"api": 80.0, "load": 50.5}
    streams = [intact(block=block, backend=name) for block, name in enumerate(("polling", "pubsub"))]
    rows = Rows(plan.Plan(1, 10.0, ()), streams, [], [], [], samples)
    return Shown(made, list(made["backends"]), rows, HERE)


def sampled() -> list[ProcessSample]:
    began = intact(block=0).intended_ns
    return [
        ProcessSample(
            began + at * 1000 * MS, {"api-1": 2**20, "worker-1": at * 2**20}, {"api-1": at / 2, "worker-1": at}
        )
        for at in range(5)
    ]


def test_each_backend_has_its_slowest_streams_and_long_names_their_room() -> None:
    """However much slower another one is; and no label begins left of the paper, with the letters of a phone."""
    seen = shown([])
    found = inside_plots.slowest(seen)
    assert found is not None
    assert [row[0] for row in found.table.rows] == ["polling 1/1", "pubsub 2/1"]
    name = "a-backend, overhead p50"
    drawing = xml.fromstring(forest("", "", [Line(name, 0, 0.5, None, None)], None))
    label = next(one for one in drawing.iter("text") if one.text == name)
    assert float(label.attrib["x"]) >= 11 * len(name)


def test_each_kind_of_process_has_its_cores_and_its_memory() -> None:
    """Half a core and one, a steady mebibyte and one more each second."""
    titles = {one.title: one for one in inside_plots.figures(shown(sampled()))}
    cores, memory = titles["Processor time of the system"], titles["Memory of the system"]
    assert [row[1:] for row in cores.table.rows] == [["0.5", "1"]] * 4
    assert [row[1:] for row in memory.table.rows] == [["1", str(at)] for at in range(5)]


def test_hops_are_shares_of_each_backends_own_whole_and_the_numbers_stand_under_it() -> None:
    """A negative transit is left out of the bar, and told."""
    found = inside_plots.hops(shown([]))
    assert found is not None
    assert found.table.rows[0] == ["polling", "2 ms", "47 ms", "500 µs", "500 µs", "50 ms"]
    assert found.table.rows[1] == ["pubsub", "600 µs", "−200 µs", "200 µs", "200 µs", "800 µs"]
    bars = [float(part.attrib["width"]) for part in xml.fromstring(found.svg).iter("rect")]
    assert sum(bars[:4]) == pytest.approx(sum(bars[4:]), abs=0.5)
    assert len(bars) == 7


def test_what_nobody_could_see_has_no_plot_and_no_table() -> None:
    """Of somebody else's system: no hops, no processes."""
    seen = shown([], hops=False)
    assert [one.title for one in inside_plots.figures(seen)] == ["The slowest streams"]
    assert inside_plots.tables(seen.result, seen.names) == []
    assert "CPU µs a chunk" not in report.markdown(seen.result)


def test_the_report_shows_pictures_that_stand_alone(tmp_path: Path) -> None:
    """Each is a whole SVG with its own colours, dark and light, and its legend; the report names every one of them."""
    plan.save(plan.Plan(1, 10.0, ()), tmp_path / "plan.json")
    seen = shown(sampled())
    with (tmp_path / "streams.jsonl").open("wb") as file:
        recorder.append(file, seen.rows.streams)
    with (tmp_path / "processes.jsonl").open("wb") as file:
        recorder.append(file, seen.rows.processes)
    bench_page.write_report(seen.result, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "Again: `streamgauge bench --backends polling,pubsub --chunk-rate 20.0 --seed 1`." in text
    named = re.findall(r"!\[([^]]+)\]\((pictures/[^)]+)\)", text)
    assert {place for _, place in named} == {f"pictures/{one.name}" for one in (tmp_path / "pictures").iterdir()}
    assert {"Ratio to polling", "Where a chunk's time goes", "The slowest streams"} <= {title for title, _ in named}
    for _, place in named:
        root = xml.parse(tmp_path / place).getroot()
        assert root.tag == f"{SVG}svg"
        assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    words = (tmp_path / "pictures/delivery-latency-by-percentile.svg").read_text()
    assert ">polling</text>" in words
    assert ">pubsub</text>" in words
    assert "| api | 80 | 80 |" in text
    assert "| transit | 47 ms | −200 µs |" in text


def test_a_long_legend_takes_several_rows_above_the_drawing(tmp_path: Path) -> None:
    """Nothing of it lies outside of the paper."""
    figure = inside_plots.slowest(shown([]))
    assert figure is not None
    wide = Figure(figure.title, "", figure.svg, figure.table, [(f"a rather long name {one}", one) for one in range(6)])
    root = xml.fromstring(pictures.standalone(wide))
    left, top, width, _ = (float(one) for one in root.attrib["viewBox"].split())
    words = [one for one in root.iter(f"{SVG}text") if (one.text or "").startswith("a rather")]
    assert len(words) == 6
    assert all(top < float(one.attrib["y"]) < 0 for one in words)
    assert all(left <= float(one.attrib["x"]) < width - 100 for one in words)
