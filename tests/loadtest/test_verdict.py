"""When a run's figures may be believed."""

from typing import Any

import msgspec
import pytest

from loadtest.clock import Offset
from loadtest.host import HostSample, sample
from loadtest.recorder import GeneratorRow
from loadtest.stats import Distribution
from loadtest.verdict import Evidence, Verdict, broken, evidence, judge, too_few
from tests.support.stream_rows import MS

HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
QUIET = Evidence(
    start_lag_p99_s=0.002,
    loop_lag_p99_s=0.001,
    generator_cpu_share=0.2,
    steal_share=0.0,
    cpu_pressure_share=0.3,
    idle_share=0.5,
    clock_step_s=0.0,
)


def backends(*, censored: int = 0, intact: int = 20, below_zero: int = 0) -> dict[str, Any]:
    return {
        "polling": {
            "streams": intact + censored,
            "integrity": {"intact": intact, "censored": censored},
            "failures": {},
            "delivery_latency_s": {"count": 100, "below_zero": below_zero},
        }
    }


def test_an_undisturbed_run_is_valid_without_reasons() -> None:
    """Nothing speaks against it."""
    assert judge(QUIET, backends(), None, interrupted=False) == (Verdict.VALID, [])


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"start_lag_p99_s": 0.06}, Verdict.GENERATOR_LIMITED, "p99 of all streams' start_lag was 60 ms, above 50 ms"),
        ({"loop_lag_p99_s": 0.02}, Verdict.GENERATOR_LIMITED, "loop lag was 20 ms, above 12.5 ms"),
        ({"generator_cpu_share": 0.95}, Verdict.GENERATOR_LIMITED, "share of a core was 0.95, above 0.9"),
        ({"steal_share": 0.2}, Verdict.NOISY, "stolen"),
        ({"cpu_pressure_share": 0.9}, Verdict.NOISY, "waited for a processor"),
        ({"others_share": 0.4}, Verdict.NOISY, "processor time that other programs took was 0.4, above 0.25"),
        ({"other_loads": 1}, Verdict.NOISY, "1 other load of streamgauge ran on this machine"),
        ({"clock_step_s": 0.5}, Verdict.NOISY, "step of the wall clock"),
        ({"clock_resolution_s": 0.001}, Verdict.NOISY, "smallest step that the clock shows"),
        ({"clock_bound_s": 0.02}, Verdict.NOISY, "bound of the clocks' offset"),
        ({"clock_drift_s": 0.01}, Verdict.NOISY, "drift between the hosts' clocks"),
    ],
)
def test_each_disturbance_has_its_name_and_its_figure(changes: dict[str, float], verdict: Verdict, words: str) -> None:
    """The reason says what was measured and what the limit is."""
    found, reasons = judge(msgspec.structs.replace(QUIET, **changes), backends(), None, interrupted=False)
    assert found == verdict
    assert len(reasons) == 1
    assert words in reasons[0]


def test_a_cut_run_is_censored_whatever_else_it_was() -> None:
    """The worst finding names the run; all are listed, the worst first."""
    noisy = msgspec.structs.replace(QUIET, steal_share=0.5)
    small = [(Verdict.TOO_FEW, "one quartet")]
    found, reasons = judge(noisy, backends(censored=3), None, interrupted=True, also=small)
    assert found == Verdict.CENSORED
    assert [one.partition(":")[0] for one in reasons] == ["CENSORED", "CENSORED", "NOISY", "TOO-FEW"]


def test_a_backend_without_an_intact_stream_is_not_valid() -> None:
    """There is nothing to believe."""
    assert judge(QUIET, backends(intact=0), None, interrupted=False)[0] == Verdict.CENSORED


def test_streams_that_broke_break_the_run_whatever_else_it_was() -> None:
    """Counted once each, with what was wrong with them and why most failed; a cut run says that too."""
    found = backends(censored=1, intact=8)
    found["polling"] |= {"streams": 24, "failures": {"POST answered 0: Connection refused": 11, "cut": 1}}
    found["polling"]["integrity"] |= {"missing_terminal": 4, "failed": 12}
    verdict, reasons = judge(QUIET, found, None, interrupted=False, also=broken(found))
    assert verdict == Verdict.BROKEN
    assert reasons == [
        "BROKEN: 15 of 24 streams of polling did not come whole: 4 missing_terminal, 12 failed "
        "(most often: POST answered 0: Connection refused)",
        "CENSORED: 1 stream of polling was cut off in flight",
    ]


def test_one_broken_stream_is_enough_and_a_cut_one_is_none() -> None:
    """Nothing may be lost, and what was in flight at the stop was not."""
    one = backends(intact=99)
    one["polling"] |= {"streams": 100}
    one["polling"]["integrity"] |= {"holes": 1}
    assert [verdict for verdict, _ in broken(one)] == [Verdict.BROKEN]
    assert broken(backends(censored=3)) == []


def test_a_target_that_died_is_broken_and_not_cut() -> None:
    """No stream ended intact, and none was in flight at the stop."""
    dead = backends(intact=0)
    dead["polling"] |= {"streams": 5}
    dead["polling"]["integrity"] |= {"failed": 5}
    found, reasons = judge(QUIET, dead, None, interrupted=False, also=broken(dead))
    assert (found, len(reasons)) == (Verdict.BROKEN, 1)


def test_chunks_received_before_they_were_made_show_a_bad_clock() -> None:
    """On one clock that cannot happen."""
    assert judge(QUIET, backends(below_zero=5), None, interrupted=False)[0] == Verdict.NOISY


@pytest.mark.parametrize(
    ("estimate", "low", "high", "verdict"),
    [
        (1.3, 1.1, 1.5, Verdict.NOISY),
        (0.7, 0.6, 0.9, Verdict.NOISY),
        (1.3, 0.9, 1.8, Verdict.VALID),  # it holds 1
        (1.02, 1.01, 1.03, Verdict.VALID),  # sure, and of no consequence
        (3.0, None, None, Verdict.VALID),  # one quartet: nothing is known
    ],
)
def test_a_backend_that_differs_from_itself_makes_the_run_noisy(
    estimate: float, low: float | None, high: float | None, verdict: Verdict
) -> None:
    """A/A outside its interval, by more than a twentieth."""
    floor = {"p50": {"estimate": estimate, "low": low, "high": high, "quartets": 3}}
    assert judge(QUIET, backends(), floor, interrupted=False)[0] == verdict


@pytest.mark.parametrize(
    ("intact", "quartets", "interval", "words"),
    [
        (20, 3, (0.8, 1.2), []),
        (5, 3, (0.8, 1.2), ["5 streams of polling, and 6 are"]),
        (20, 1, (None, None), ["one quartet gives no interval"]),
        (20, 2, (0.136, 6.95), ["no better than 0.136 to 6.95×"]),
        (3, 1, (None, None), ["3 streams", "one quartet"]),
        (20, 0, (None, None), []),  # a soak compares nothing
    ],
)
def test_a_run_too_small_to_tell_says_so(
    intact: int, quartets: int, interval: tuple[float | None, float | None], words: list[str]
) -> None:
    """Few streams, one quartet, or a floor that holds 1 because it holds nearly everything."""
    ratio = {"estimate": 0.974, "low": interval[0], "high": interval[1], "quartets": quartets}
    floor = {"p50": ratio} if quartets else None
    compared = [{"delivery_latency_p50_ratio": ratio}]
    made = backends(intact=intact)
    found, reasons = judge(QUIET, made, floor, interrupted=False, also=too_few(made, compared, floor))
    assert found == (Verdict.TOO_FEW if words else Verdict.VALID)
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_clocks_that_drift_apart_more_than_their_bounds_explain_are_seen() -> None:
    """10 ms of change less 1 ms of bound each leaves 8 ms."""
    before, after = Offset(False, 0, MS), Offset(False, 10 * MS, MS)
    host = [HostSample(0, 0, None, None, None, None)]
    found = evidence(Distribution(), [], host, before, after)
    assert (found.clock_bound_s, found.clock_drift_s) == (0.001, 0.008)


def test_what_the_machine_does_not_tell_is_no_reason() -> None:
    """Neither /proc/stat nor pressure exists everywhere."""
    blind = Evidence(None, None, None, None, None, None, 0.0)
    assert judge(blind, backends(), None, interrupted=False)[0] == Verdict.VALID


def test_evidence_is_boiled_down_from_samples() -> None:
    """Shares of the time between the first and the last sample; a step is the spread of wall − monotonic."""
    host = [HostSample(0, 7, 1000, 10, 500, 0), HostSample(2_000 * MS, 7 + 5 * MS, 1400, 30, 600, 500_000)]
    generator = [GeneratorRow(0, 0, 1_000 * MS, 250 * MS, (1 * MS, 2 * MS, 3 * MS))]
    found = evidence(Distribution([4 * MS]), generator, host, HERE, HERE)
    assert found.start_lag_p99_s == pytest.approx(0.004, rel=1e-3)
    assert found.loop_lag_p99_s == pytest.approx(0.003, rel=1e-3)
    assert (found.generator_cpu_share, found.steal_share, found.cpu_pressure_share) == (0.25, 0.05, 0.25)
    assert (found.idle_share, found.clock_step_s) == (0.25, 0.005)


def test_the_host_is_sampled_for_real() -> None:
    """Two samples on this machine: time passes, and the clock does not step by more than a millisecond."""
    first, second = sample(), sample()
    assert second.at_ns > first.at_ns
    assert abs(second.wall_minus_monotonic_ns - first.wall_minus_monotonic_ns) < MS
