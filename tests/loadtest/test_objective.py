"""An objective is written as people say it, and held against what never ended, too."""

import pytest

from loadtest import objective
from tests.support.results import run_of


def kept(text: str, **changes: object) -> list[bool]:
    figures = {**run_of()["backends"]["polling"], **changes}
    return [one.kept for one in objective.check(objective.parse(text), figures)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delivery_latency.p99<50ms", "delivery_latency.p99 < 50 ms"),
        (" ttft.p95 <= 1s ", "ttft.p95 < 1 s"),
        ("ttfb.max<250us", "ttfb.max < 250 µs"),
        ("intact=100%", "intact ≥ 100 %"),
        ("intact >= 99.9 %", "intact ≥ 99.9 %"),
    ],
)
def test_it_is_read_as_it_was_meant(text: str, said: str) -> None:
    """Units and blanks as people write them."""
    assert [str(one) for one in objective.parse(text)] == [said]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "give one such as"),
        ("fast", "write one such as"),
        ("ttft.p95<1", "write one such as"),
        ("speed.p99<1s", "give one of delivery_latency"),
        ("ttft.p42<1s", "give one of p50"),
        ("intact=120%", "no more than 100 %"),
    ],
)
def test_what_is_no_objective_says_what_one_is(text: str, fix: str) -> None:
    """In one sentence."""
    with pytest.raises(ValueError, match=fix):
        objective.parse(text)


def test_each_condition_is_held_against_its_own_figure() -> None:
    """Chunks took 50 ms, all streams were whole."""
    assert kept("delivery_latency.p99<51ms,delivery_latency.p99<50ms,intact=100%") == [True, False, True]


def test_what_never_ended_is_infinite() -> None:
    """A percentile of those that came through is not kept by losing the rest."""
    figures = run_of()["backends"]["polling"]
    adjusted = {**figures["delivery_latency_s"]["adjusted"], "p99": None, "lost": 7, "infinite": ["p99"]}
    lossy = {**figures["delivery_latency_s"], "adjusted": adjusted}
    assert kept("delivery_latency.p99<9s,delivery_latency.max<9s", delivery_latency_s=lossy) == [False, False]
    integrity = {**figures["integrity"], "intact": figures["streams"] - 1}
    assert kept("intact=100%,intact>=50%", integrity=integrity) == [False, True]
