"""One interval is judged by what the candidate did beside the baseline, and only by what can't be chance."""

import re

import pytest

from ops.rollout.figures import Latency, figures_of, grown
from ops.rollout.guard import DEFAULT, parse_guard, read_guard
from ops.rollout.judge import Beside, Verdict, chance_of, judge
from ops.usage import UsageError
from tests.ops.rollout_parts import GUARD, Did, grow


def judged(candidate: Did, baseline: Did | None, guard: str = GUARD, *, is_now: bool = True) -> tuple[Verdict, str]:
    before = grow(grow({}, "pubsub", Did()), "polling", Did())
    after = grow(grow(before, "pubsub", candidate), "polling", baseline or Did(streams=0))
    growth = grown(before, after)
    beside = Beside(figures_of("polling", growth) if baseline else None, "polling now", is_now=is_now)
    found = judge(parse_guard(guard), figures_of("pubsub", growth), beside)
    return found.verdict, "" if found.verdict is Verdict.PASS else "; ".join(found.reasons)


def test_a_candidate_like_its_baseline_passes() -> None:
    """Also one that is slower by less than `slack`, or by less than `ratio`."""
    assert judged(Did(), Did()) == (Verdict.PASS, "")
    assert judged(Did(latency_s=0.04), Did(latency_s=0.005))[0] is Verdict.PASS
    assert judged(Did(latency_s=0.55), Did(latency_s=0.5))[0] is Verdict.PASS


def test_a_slower_candidate_fails_and_the_reason_has_both_figures() -> None:
    """300 ms beside 5 ms, as the buckets show them."""
    verdict, reason = judged(Did(latency_s=0.3), Did(latency_s=0.005))
    assert verdict is Verdict.FAIL
    assert "delivery_latency.p99: 408 ms" in reason
    assert "of polling now" in reason


def test_failures_count_beyond_chance_only() -> None:
    """Two of a hundred streams are more than the 1 % that is allowed, and may be chance: that holds. Twenty are not."""
    assert judged(Did(failed=2), Did())[0] is Verdict.HOLD
    assert judged(Did(failed=20), Did())[0] is Verdict.FAIL
    assert judged(Did(failed=20), Did(failed=20))[0] is Verdict.FAIL, "the limit holds whatever the baseline does"
    assert chance_of(2, 100, 0.01) > 0.01 > chance_of(20, 100, 0.01)
    assert chance_of(1, 100, 0.0) == 0.0, "where nothing is allowed, one is too many"
    assert chance_of(100, 100, 0.5) < 1e-20


def test_too_few_samples_hold_on_either_side() -> None:
    """And no data at all is no pass either."""
    assert judged(Did(streams=5), Did())[0] is Verdict.HOLD
    verdict, reason = judged(Did(), Did(streams=5))
    assert verdict is Verdict.HOLD
    assert "polling now has too few samples: 5 of 10 streams" in reason
    assert judged(Did(streams=0), Did(streams=0))[0] is Verdict.HOLD


def test_a_candidate_whose_streams_all_fail_before_a_chunk_fails() -> None:
    """Its latency has no samples, but its failures do."""
    assert judged(Did(failed=100, chunks=0), Did())[0] is Verdict.FAIL


def test_without_a_baseline_limits_alone_hold() -> None:
    """And where there is no limit either, nothing can be said, which is no pass."""
    assert judged(Did(), None)[0] is Verdict.PASS
    assert judged(Did(failed=20), None)[0] is Verdict.FAIL
    verdict, reason = judged(Did(), None, "objectives: {ttfb.p95: {ratio: 2}}")
    assert verdict is Verdict.HOLD
    assert "no objective has a limit" in reason
    _, reason = judged(Did(), Did(streams=5), "objectives: {ttfb.p95: {ratio: 2}}")
    assert "polling now has too few samples" in reason


def test_a_baseline_of_another_time_holds_and_only_a_limit_fails() -> None:
    """At 100 % a machine that got busier looks like a candidate that got worse: that is no reason to go back."""
    verdict, reason = judged(Did(latency_s=0.3), Did(), is_now=False)
    assert verdict is Verdict.HOLD
    assert "it may be the time" in reason
    limited = "objectives: {delivery_latency.p99: {slack: 50ms, limit: 200ms}}"
    assert judged(Did(latency_s=0.3), Did(), limited, is_now=False)[0] is Verdict.FAIL


def test_missed_pushes_are_a_share_of_the_events() -> None:
    """A tenth of them, where a hundredth is allowed."""
    guard = "objectives: {repairs: {slack: 1%}}"
    assert judged(Did(repairs=100), Did(), guard)[0] is Verdict.FAIL
    assert judged(Did(repairs=5), Did(), guard)[0] is Verdict.PASS


def test_only_streams_whose_store_was_lost_count_as_handed_over() -> None:
    """Those that somebody moved by a forced rollback are no fault of the candidate."""
    guard = "objectives: {handovers: {slack: 1%}}"
    assert judged(Did(lost=20), Did(), guard)[0] is Verdict.FAIL
    assert judged(Did(moved=20), Did(), guard)[0] is Verdict.PASS


def test_a_restarted_process_counts_from_zero_and_a_new_one_from_the_next_interval() -> None:
    """Neither makes a jump."""
    before = grow(grow({}, "pubsub", Did(streams=1000), "a"), "pubsub", Did(streams=1000), "b")
    after = grow(grow(grow({}, "pubsub", Did(streams=10), "a"), "pubsub", Did(streams=1010), "b"), "pubsub", Did(), "c")
    assert figures_of("pubsub", grown(before, after)).streams == 20


def test_quantiles_are_prometheus_own() -> None:
    """Linear inside a bucket; the last finite edge beyond it; and what lies above a limit is counted the same way."""
    latency = Latency((0.1, 0.2), (50, 100, 100))
    assert latency.quantile(0.75) == pytest.approx(0.15)
    assert latency.above(0.15) == 25
    assert Latency((0.1,), (0, 10)).quantile(0.5) == 0.1
    assert Latency((0.1,), (0, 10)).above(60) == 10
    assert Latency().quantile(0.5) is None


@pytest.mark.parametrize(
    ("text", "key", "fix"),
    [
        ("objectives: {delivery.p99: {ratio: 2}}", "objectives.delivery.p99", "delivery_latency.p99"),
        ("objectives: {delivery_latency: {ratio: 2}}", "objectives.delivery_latency", "delivery_latency.p99"),
        ("objectives: {ttfb.p95: {}}", "objectives.ttfb.p95", "`ratio`"),
        ("objectives: {ttfb.p95: {limit: 3}}", "limit", "str"),
        ("objectives: {ttfb.p95: {limit: 3 min}}", "objectives.ttfb.p95.limit", "250ms"),
        ("objectives: {failed: {slack: 20ms}}", "objectives.failed.slack", "0.5%"),
        ("objectives: {failed: {ratio: 0.5}}", "ratio", ">= 1"),
        ("objectives: {failed: {slack: 1%}}\nfailure: 2", "failure", "guard.yaml"),
        ("objectives: {failed: {slack: 1%}}\ncooldown: soon", "cooldown", "60s"),
        ("objectives: {failed: {slack: 1%}}\nwebhooks: [{url: ftp://x}]", "webhooks", "http"),
        ("objectives: {}", "objectives", "delivery_latency.p99: {ratio"),
        ("a: [", "no YAML", "ops/rollout/guard.yaml"),
    ],
)
def test_a_wrong_guard_names_the_key_and_says_what_to_write(text: str, key: str, fix: str) -> None:
    """Before anything has begun."""
    with pytest.raises(ValueError, match=re.escape(key)) as error:
        parse_guard(text)
    assert fix in str(error.value)


def test_the_guard_in_the_repository_is_the_one_that_holds_without_another() -> None:
    """And a file that is not there says so."""
    assert {objective.name for objective in read_guard(DEFAULT).objectives} >= {"delivery_latency.p99", "ttfb.p95"}
    with pytest.raises(UsageError, match="Copy ops/rollout/guard"):
        read_guard(DEFAULT.with_name("absent.yaml"))
