"""The page that people pass on: whole in one file, honest about what is missing, readable without its plots."""

import re
import xml.etree.ElementTree as xml  # noqa: N813
from html import escape
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest import bench_page, plan, recorder, report
from loadtest.page import TEMPLATES, Figure, Page, Section, Table, render
from loadtest.plots.bars import Bar, Part, bars
from loadtest.plots.scales import Linear
from loadtest.plots.svg import SHADES, key
from loadtest.recorder import StreamRow
from loadtest.verdict import Verdict
from ops.measure import errors_say_what_to_do
from ops.processes import StackError
from tests.support.results import run_of
from tests.support.stream_rows import intact

PLAN = plan.Plan(1, 10.0, ())


def rows(*, broken: int = 0) -> list[StreamRow]:
    made = []
    for block in range(8):
        backend = "polling" if block % 4 in {0, 3} else "pubsub"
        latency_ms = 50 if backend == "polling" else 0.8
        made += [intact(block=block, arrival=arrival, backend=backend, latency_ms=latency_ms) for arrival in (1, 2)]
    lost = [msgspec.structs.replace(row, outcome="failed", error="cut") for row in made[:broken]]
    return lost + made[broken:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run leaves."""
    return left_in(tmp_path, rows())


def left_in(folder: Path, streams: list[StreamRow]) -> Path:
    plan.save(PLAN, folder / "plan.json")
    with (folder / "streams.jsonl").open("wb") as file:
        recorder.append(file, streams)
    return folder


def html_of(folder: Path, **changes: Any) -> str:
    made = {**run_of(quartets=2), **changes}
    return bench_page.write_report(made, folder).read_text()


def test_the_page_is_one_file_that_asks_for_nothing(folder: Path) -> None:
    """No script, no link, no image, no font from elsewhere: it opens offline and on paper."""
    html = html_of(folder)
    assert "<script" not in html
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:,)""", html)
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1)", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert 'name="viewport"' in html


def test_every_plot_can_be_read_without_being_seen(folder: Path) -> None:
    """Each has a name for a screen reader and the same in numbers under it."""
    html = html_of(folder)
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    assert len(figures) >= 8
    for figure in figures:
        assert re.search(r'<svg viewBox="[^"]+" role="img" aria-label="[^"]+">', figure)
        assert "<summary>The same in numbers</summary>" in figure
        assert figure.count("<tr>") >= 3


def test_the_drawings_are_well_formed_and_on_the_paper(folder: Path) -> None:
    """Every SVG parses, and no coordinate of a circle lies outside of its view box."""
    for svg in re.findall(r"<svg.*?</svg>", html_of(folder), re.DOTALL):
        root = xml.fromstring(svg)
        width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
        for circle in root.iter("circle"):
            assert 0 <= float(circle.attrib["cx"]) <= width
            assert 0 <= float(circle.attrib["cy"]) <= height


def test_the_verdict_comes_first_and_the_way_to_repeat_it_last(folder: Path) -> None:
    """With its reasons; the command has the seed."""
    made = run_of(quartets=2, interrupted=True)
    html = html_of(folder, **made)
    assert html.index("CENSORED</strong>") < html.index("the run was stopped before its plan was played")
    assert html.index("the run was stopped") < html.index("<svg")
    assert "streamgauge bench --backends polling,pubsub --chunk-rate 20.0 --seed 1" in html
    assert html.index("Do it again") > html.rindex("</figure>")
    for meaning in report.DISTRIBUTIONS.values():
        assert meaning.replace("'", "&#39;") in html


def test_streams_that_broke_are_told_in_the_plots(tmp_path: Path) -> None:
    """Their chunks count as infinite, so no curve passes for the whole."""
    html = html_of(left_in(tmp_path, rows(broken=1)))
    assert "Never came whole, so counted as infinite: 5 of 40 of polling." in html


def test_of_a_model_alone_nothing_is_plotted_that_it_does_not_tell(tmp_path: Path) -> None:
    """First token and gaps stand where a delivery would: when a token was made is not known."""
    told = {"backend": "openai", "protocol": "openai", "committed": None}
    left_in(tmp_path, [msgspec.structs.replace(row, produced_ns=(0,) * len(row.kinds), **told) for row in rows()])
    plan.save(msgspec.structs.replace(PLAN, protocol="openai"), tmp_path / "plan.json")
    made = run_of(quartets=2)
    made["backends"] = {"openai": made["backends"]["pubsub"]}
    html = html_of(tmp_path, **{**made, "comparisons": [], "noise_floor": None})
    titles = re.findall(r"<figure>\s*<figcaption><h3>(.*?)</h3>", html)
    assert titles[:2] == ["Time to first token, cumulative", "Gap between chunks, cumulative"]
    assert not any("Delivery" in one or "Added" in one or "slowest" in one for one in titles)
    gaps = html[html.index("Gap between chunks") :]
    assert '<th scope="row">openai</th><td>50 ms</td>' in gaps[: gaps.index("</figure>")]
    assert "gap-between-chunks-cumulative.svg" in (tmp_path / "report.md").read_text()
    assert "delivery-latency" not in (tmp_path / "report.md").read_text()


def test_a_result_without_its_rows_says_what_is_missing(tmp_path: Path) -> None:
    """Tables all the same."""
    html = html_of(tmp_path)
    assert "raw streams are not beside its result" in html
    assert "<figure" not in html
    assert "delivery_latency: producer held" in html


def test_a_report_whose_rows_are_gone_keeps_its_pictures(folder: Path) -> None:
    """Its page is made anew, and report.md left as it was."""
    html_of(folder)
    before = (folder / "report.md").read_text()
    assert "pictures/" in before
    (folder / "streams.jsonl").unlink()
    html_of(folder)
    assert (folder / "report.md").read_text() == before


def test_a_plots_table_has_no_percentile_of_too_few_values(folder: Path) -> None:
    """Of eight streams p90 would be the largest; p50 is one of them."""
    html = html_of(folder)
    table = html[html.index("Time to first byte, cumulative</h3>") :]
    header, row = (re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", line) for line in table.split("<tr>")[1:3])
    shown = dict(zip(header, row, strict=True))
    assert (shown["p50"], shown["p90"], shown["p99"], shown["max"]) == ("5 ms", "–", "–", "5 ms")


def test_how_it_was_made_is_for_people(folder: Path) -> None:
    """Sizes with their unit, and nothing of flips where none was."""
    machine = {**run_of()["machine"], "memory_bytes": 2**30}
    settings = {**run_of(quartets=2)["settings"], "flipping": {"every_s": None}, "clock_of": {"same_host": True}}
    html = html_of(folder, machine=machine, settings=settings)
    assert "1024 MiB" in html
    assert "flipping" not in html
    assert "same_host True" in html


def test_a_rows_label_is_a_name_and_its_meaning_stands_above_the_table(folder: Path) -> None:
    """A sentence in a label that does not wrap would push the numbers off the screen, and off the paper."""
    html = html_of(folder)
    labels = re.findall(r'<th scope="row">(.*?)</th>', html)
    assert max(map(len, labels)) <= 45, max(labels, key=len)
    for name, meaning in report.RATES.items():
        assert f'<p class="prose">{escape(f"{name}: {meaning}.")}</p>'.replace("&#x27;", "&#39;") in html
    on_paper = html[html.index("@media print") :]
    assert re.search(r"\.tables \{ grid-template-columns: 1fr;", on_paper), "a table has the paper's whole width"


def test_a_legend_is_drawn_as_the_plot_draws_it() -> None:
    """Dots for dots; parts of a whole in shades of their own, so that none is taken for a backend."""
    assert 'class="line s1"' in key("line", 1)
    assert "<circle" in key("dots", 1)
    drawn = bars("", "", Linear(0, 1, 0, 1, str), [Bar("a", [Part("b", 0, 1, 3)])])
    assert 'class="part p3"' in drawn
    assert 'class="part p3"' in key("part", 3)
    style = (TEMPLATES / "plots.css").read_text()
    assert all(f".p{shade} {{ fill: var(--p{shade}); }}" in style for shade in range(SHADES))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_page_says_what_its_verdict_means(tmp_path: Path, verdict: Verdict) -> None:
    """In a sentence beside the word."""
    html = html_of(tmp_path, verdict=verdict, verdict_reasons=["so it was"])
    assert f"<strong>{verdict}</strong> {bench_page.VERDICTS[verdict]}" in html


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_backends_is_shown(tmp_path: Path, count: int) -> None:
    """One has no ratios, three have two each."""
    made = run_of(quartets=2)
    figures, by = made["backends"]["pubsub"], ["polling", "pubsub", "notify"][:count]
    made["backends"] = {name: made["backends"].get(name, figures) for name in by}
    streams = rows() + [msgspec.structs.replace(row, backend="notify") for row in rows() if row.backend == "pubsub"]
    html = html_of(left_in(tmp_path, streams), **made)
    assert ("Ratio to polling" in html) == (count > 1)
    assert html.count("Delivery latency of ") == 2 * count  # its heading and its label
    assert ("notify, delivery p50" in html) == (count == 3)


@pytest.mark.parametrize(
    ("full", "advice"), [("report.md", "'streamgauge report {}' then finishes it"), (".result.json", "run it again")]
)
def test_a_full_disk_is_told_with_what_to_do(folder: Path, full: str, advice: str) -> None:
    """A result is there whole or not at all; if it is, the rest can be made from it once there is room."""
    (folder / full).symlink_to("/dev/full")
    with pytest.raises(bench_page.UnwrittenError) as refused:
        bench_page.write_all(run_of(quartets=2), folder)
    assert "No space left on device" in str(refused.value)
    assert advice.format(folder) in str(refused.value)
    assert (folder / "result.json").exists() == (full == "report.md")
    assert not (folder / ".result.json").is_symlink()


def test_a_full_disk_during_a_run_is_one_line() -> None:
    """Whatever was being written."""
    with pytest.raises(StackError, match="No space left on device: make room"), errors_say_what_to_do():
        Path("/dev/full").write_text("a row")


def test_text_from_outside_is_text(tmp_path: Path) -> None:
    """What a server or a person wrote cannot become part of the page."""
    evil = "<img src=x onerror=alert(1)>"
    table = Table(["", evil], [[evil, evil]])
    figure = Figure(evil, evil, "<svg/>", table, [(evil, 0)])
    page = Page(evil, evil, [evil], [(evil, evil, [evil])], table, figure, [Section(evil, [evil], code=[(evil, evil)])])
    assert "<img" not in render(page)
