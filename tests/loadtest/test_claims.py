"""Claims are judged by intervals, on figures that were planted: each outcome is reached, and no other."""

import pytest

from loadtest import claims, claims_report
from loadtest.claims import CLAIMS, Claim, Edge, Level, Measured, Observed, Outcome, judge
from tests.support.results import run_of, typed

PROMISE = Claim("small", "1–5", "s", 1, 5, promise=True)
STATE = Claim("middling", "1–5", "s", 1, 5)
LOADED = Claim("of a load", "1–5/s", "/s", 1, 5, promise=True, of_its_load=True)
LEAST = Claim("large", "30×", "×", 30, None, promise=True)


@pytest.mark.parametrize(
    ("claim", "low", "high", "outcome"),
    [
        (STATE, 2, 4, Outcome.CONFIRMED),
        (STATE, 0.5, 2, Outcome.UNDECIDED),
        (STATE, 0.1, 0.9, Outcome.LOWER),
        (STATE, 6, 7, Outcome.HIGHER),
        (STATE, 4, 6, Outcome.UNDECIDED),
        (STATE, None, None, Outcome.UNDECIDED),
        (STATE, 6, None, Outcome.HIGHER),
        (STATE, 2, None, Outcome.UNDECIDED),
        (PROMISE, 0.1, 0.9, Outcome.BETTER),
        (PROMISE, 0.5, 2, Outcome.CONFIRMED),
        (PROMISE, 4, 6, Outcome.UNDECIDED),
        (PROMISE, 6, 7, Outcome.HIGHER),
        (LOADED, 2, 4, Outcome.NOT_COMPARABLE),
        (LOADED, 6, 7, Outcome.NOT_COMPARABLE),
        (LOADED, None, None, Outcome.UNDECIDED),
        (LEAST, 31, 50, Outcome.CONFIRMED),
        (LEAST, 31, None, Outcome.CONFIRMED),
        (LEAST, 20, 40, Outcome.UNDECIDED),
        (LEAST, None, 29, Outcome.LOWER),
    ],
)
def test_only_the_whole_interval_decides(claim: Claim, low: float | None, high: float | None, outcome: Outcome) -> None:
    """What straddles an end is undecided, but a promise of something small is kept by what is smaller.

    A number that goes with a load decides nothing where the guide names no load.
    """
    assert judge(claim, Measured(low, low, high)) is outcome


def levels(held_up_to: int, *, start: int = 50, limit: int = 2000, close_enough: float = 1.1) -> list[Level]:
    found: list[Level] = []
    while (streams := claims.next_level(found, start, limit, close_enough)) is not None:
        found.append(Level(streams, streams <= held_up_to, "planted", streams * 400, streams * 400 * 150))
    return found


@pytest.mark.parametrize("edge", [7, 49, 50, 51, 333, 1999])
def test_the_search_closes_in_on_the_edge(edge: int) -> None:
    """From either side of its start, each level once, in few of them."""
    found = levels(edge)
    closed = claims.edge(found)
    assert closed.failed is not None
    assert closed.held <= edge < closed.failed
    assert closed.failed <= max(1.1 * closed.held, closed.held + 1)
    assert len({one.streams for one in found}) == len(found) < 14


def test_a_search_that_meets_no_failure_says_so_and_one_that_nothing_passes_ends() -> None:
    """At the limit, or at nothing."""
    assert claims.edge(levels(5000, limit=1000)) == Edge(1000, None)
    assert claims.edge(levels(0)) == Edge(0, 1)


def observed(polling: list[Level], pubsub: list[Level]) -> Observed:
    return Observed(20.0, 400.0, polling, pubsub, [0.0001, 0.00011, 0.00009], 0.1)


def test_planted_figures_are_found_and_judged() -> None:
    """Means of 70 and 2 ms are 35×, with 60 against 1,600 streams, and 150 bytes a chunk."""
    made = typed(run_of({"polling": 70.0, "pubsub": 2.0}, spread=0.01))
    found = dict(zip(CLAIMS, claims.findings(made, observed(levels(60), levels(1600, start=125))), strict=True))
    outcomes = {name: one.outcome for name, one in found.items()}
    assert outcomes["latency_before"] is outcomes["latency_after"] is outcomes["faster"] is Outcome.CONFIRMED
    assert found["faster"].measured.estimate == pytest.approx(35, rel=0.05)
    assert outcomes["ttfb_before"] is Outcome.LOWER  # 5 ms, by both
    assert outcomes["streams_before"] is outcomes["streams_after"] is outcomes["more_users"] is Outcome.CONFIRMED
    assert outcomes["operation"] is Outcome.CONFIRMED
    assert found["memory"].measured.estimate == pytest.approx(1000 * 400 * 150)
    assert outcomes["memory"] is Outcome.LOWER
    assert outcomes["queries_before"] is outcomes["less_load"] is Outcome.UNDECIDED  # nobody counted
    assert "polling looks every 100 ms" in found["latency_before"].meaning


def test_the_report_holds_every_claim_with_what_it_means() -> None:
    """As it is stated, with the verdict of the run first and the way to have it again last."""
    made = typed(run_of())
    told = claims_report.Document(
        made_at="2026-01-01T00:00:00+00:00",
        machine={"cores": 2, "cpu": "of the test"},
        settings={"command": "streamgauge claims", "STREAMGAUGE_POLLING_INTERVAL_S": 0.1},
        verdict=made.verdict.value,
        verdict_reasons=made.verdict_reasons,
        findings=claims.findings(made, observed(levels(60), levels(5000, limit=1000))),
        levels={"polling": levels(60), "pubsub": []},
    )
    text = claims_report.markdown(told)
    for claim in CLAIMS.values():
        assert f"| {claim.name} | {claim.said} |" in text
        assert f"- *{claim.name}*: " in text
    assert "| 1,000 or more | confirmed |" in text
    assert text.index(made.verdict.value) < text.index("| claim |")
    assert "STREAMGAUGE_POLLING_INTERVAL_S 0.1" in text
