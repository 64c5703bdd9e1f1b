"""What people read says what programs read."""

import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from loadtest import bench_page, plan, recorder, report, schedules
from loadtest.clock import Offset
from loadtest.generator import Progress
from loadtest.plan import Protocol
from loadtest.progress import Display
from loadtest.run import BrokenRunError, check_whole
from loadtest.wording import adjusted, percentile, seconds
from tests.support.results import run_of
from tests.support.stream_rows import intact


def made(*, same_host: bool = True, interrupted: bool = False) -> dict[str, Any]:
    offset = Offset(True, 0, 0) if same_host else Offset(False, 300_000, 200_000)
    return run_of(quartets=3, interrupted=interrupted, offset=offset)


def test_the_report_has_the_verdict_the_figures_and_what_they_are_not(tmp_path: Path) -> None:
    """Verdict first; a definition with every table; limits at the end."""
    document = made()
    report.write(document, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.startswith("# polling vs pubsub: VALID")
    assert "| polling | 50 ms | 50 ms |" in text
    assert "pubsub is 62.5× lower than polling" in text
    assert "noise floor (the same backend twice, p50): 1×" in text
    assert "The polling backend's interval is not known here." in text
    for meaning in report.DISTRIBUTIONS.values():
        assert meaning in text
    assert all(sentence in text for sentence in report.NOT_SAID)
    assert json.loads((tmp_path / "result.json").read_text()) == document


def test_every_other_backend_is_held_against_polling_or_else_the_first_named() -> None:
    """In the order they were named, faster or slower."""
    document = run_of({"b": 2.0, "polling": 50.0, "a": 100.0})
    assert list(document["backends"]) == ["polling", "b", "a"]
    text = report.markdown(document)
    assert "delivery latency p50: b is 25× lower than polling" in text
    assert "delivery latency p50: a is 2× higher than polling" in text
    text = report.markdown(run_of({"b": 2.0, "a": 1.0, "c": 2.0}))
    assert text.startswith("# b vs a vs c: VALID")
    assert "a is 2× lower than b" in text
    assert "no difference shown between c and b" in text
    assert "polling" not in text


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (
            0.00668,
            6580.0,
            "no difference shown between pubsub and polling (95 % interval 0.00668 to 6.58e+03, 4 quartets)",
        ),
        (1.5, 30.0, "pubsub is lower than polling, and this run does not tell how much (95 % interval 1.5 to 30"),
        (5.5, 8.0, "pubsub is 6.63× lower than polling (95 % interval 5.5 to 8, 4 quartets)"),
        (None, None, "pubsub was 6.63× lower than polling in one quartet: too few to tell"),
    ],
)
def test_a_ratio_is_a_fact_only_as_far_as_its_interval_is(low: float | None, high: float | None, said: str) -> None:
    """What holds 1 shows nothing, what spans a decade only the direction."""
    document = run_of()
    document["comparisons"][0]["times_lower"]["p50"] = {"estimate": 6.63, "low": low, "high": high}
    assert said in report.comparison_lines(document)[0]


def test_one_backend_is_held_against_none() -> None:
    """A run of one has figures and no ratio."""
    assert run_of({"a": 1.0})["comparisons"] == []


def test_a_remote_target_prints_its_clocks_bound() -> None:
    """Estimated ± bound, never a bare difference of two clocks."""
    assert "corrected by 300 µs ± 200 µs" in report.markdown(made(same_host=False))


def test_a_bad_verdict_is_shown_with_its_reasons() -> None:
    """Never dressed up."""
    output = io.StringIO()
    report.show(made(interrupted=True), Console(width=100, file=output))
    text = output.getvalue()
    assert "verdict: CENSORED" in text
    assert "the run was stopped before its plan was played" in text


@pytest.mark.parametrize(("counted", "named"), [((False, False), ["DATABASE_URL and REDIS_URL"]), ((True, True), [])])
def test_figures_that_nobody_counted_name_the_variable_that_would_give_them(
    counted: tuple[bool, bool], named: list[str]
) -> None:
    """On the terminal as in the report."""
    run = made()
    run["settings"] |= dict(zip(("counted_database", "counted_store"), counted, strict=True))
    output = io.StringIO()
    report.show(run, Console(width=200, file=output))
    for text in (output.getvalue(), report.markdown(run)):
        assert re.findall(r"set (\S+ and \S+) to the target's servers", text) == named


@pytest.mark.parametrize(("protocol", "has_latencies"), [("streamgauge", True), ("openai", False)])
def test_the_progress_of_one_backend_shows_what_there_is(
    tmp_path: Path, protocol: Protocol, has_latencies: bool
) -> None:
    """It alternates with none, and of a model that does not say when it held a token there are no latencies."""
    size = plan.shape(quick=True, conversations=2, chunk_rate=20, model=None, seed=1)
    played = plan.scheduled(size, ["only"], schedules.steady)
    with (tmp_path / "streams.jsonl").open("wb") as file:
        recorder.append(file, [msgspec.structs.replace(intact(backend="only"), protocol=protocol)])
    output = io.StringIO()
    with Display(Console(file=output, width=200), played, tmp_path / "streams.jsonl") as display:
        display.update(Progress("over", 0))
    assert ", only alone (seed 1)" in output.getvalue()
    assert "alternating" not in output.getvalue()
    assert ("p50 / p99" in output.getvalue()) == has_latencies


def test_a_broken_run_shows_what_broke_and_what_its_figures_would_be_with_it(tmp_path: Path) -> None:
    """Adjusted percentiles beside the survivors', in every form, and why; no stream, no success."""
    document = run_of(failed=3)
    output = io.StringIO()
    report.show(document, Console(width=100, file=output))
    text = output.getvalue()
    assert "verdict: BROKEN" in text
    assert "2 of 8 streams of pubsub did not come whole: 2 failed (most often: Connection refused)" in text
    assert "polling: 1 × Connection refused" in text
    assert re.search(r"delivery_latency p95, adjusted │\s+∞ │\s+∞", text)
    html = bench_page.write_report(document, tmp_path).read_text()
    assert '<th scope="row">delivery_latency, polling, adjusted</th>' in html
    assert "`" not in html
    with pytest.raises(BrokenRunError, match=r"13 of 16 streams came whole.*mend the cause"):
        check_whole(document, tmp_path)
    check_whole(run_of(), tmp_path)


def test_a_percentile_of_too_few_values_is_not_printed() -> None:
    """It would be the largest of them; how many there were stands beside it."""
    few, many = (run_of(quartets=quartets)["backends"]["polling"] for quartets in (2, 10))
    shown = [[percentile(one[key], "p95") for key in ("ttfb_s", "delivery_latency_s")] for one in (few, many)]
    assert shown == [["–", "50 ms"], ["5 ms", "50 ms"]]
    assert percentile(few["ttfb_s"], "p50") == percentile(few["ttfb_s"], "max") == "5 ms"
    assert adjusted(few["ttfb_s"], "p99") == "–"
    assert "5 ms" not in next(line for line in _printed(run_of()).splitlines() if "ttfb p99" in line)


def _printed(document: dict[str, Any]) -> str:
    output = io.StringIO()
    report.show(document, Console(width=100, file=output))
    return output.getvalue()


def test_a_run_of_which_nothing_came_is_no_success(tmp_path: Path) -> None:
    """Whatever its verdict."""
    with pytest.raises(BrokenRunError):
        check_whole(run_of(failed=16), tmp_path)
    cut = {**run_of(), "verdict": "CENSORED", "backends": {"polling": {"streams": 3, "integrity": {"intact": 0}}}}
    with pytest.raises(BrokenRunError):
        check_whole(cut, tmp_path)


def test_the_ratio_and_its_inverse_agree() -> None:
    """`times_lower` is the same interval upside down."""
    (compared,) = made()["comparisons"]
    ratio, times = compared["delivery_latency_p50_ratio"], compared["times_lower"]["p50"]
    assert ratio["estimate"] == pytest.approx(1 / times["estimate"])
    assert ratio["low"] == pytest.approx(1 / times["high"])


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.000123, "123 µs"), (0.0502, "50.2 ms"), (2.5, "2.5 s"), (0.0, "0 µs")]
)
def test_durations_carry_a_fitting_unit(value: float | None, text: str) -> None:
    """Null is a dash, never zero."""
    assert seconds(value) == text
