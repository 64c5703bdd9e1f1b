"""Rollout: who gets the candidate, who follows which flag document, and how it does beside its baseline."""

from prometheus_client import Counter, Histogram

from app.telemetry import metrics
from dashboards.flips import FLIPS
from dashboards.panels import (
    COUNT,
    PER_SECOND,
    RATIO,
    SECONDS,
    SHARE,
    TALL,
    Board,
    Panel,
    Query,
    Section,
    lines,
    number,
)
from dashboards.promql import largest, name_of, quantile, rate, selector, share

# As in ops/rollout/exposition.py, which these pages may not import: a test holds the two together.
STEP, FAILURES = "streamgauge_rollout_step_ratio", "streamgauge_rollout_failures"
JUDGEMENTS, VERDICT = "streamgauge_rollout_judgements_total", "streamgauge_rollout_verdict"

BASELINE, CANDIDATE = 'backend="$baseline"', 'backend="$candidate"'
FAILED = 'outcome="failed"'
GENERATION = selector(name_of(metrics.FLAG_GENERATION))
# One that takes no messages learns of no document.
TAKING = f"sum by (instance) (rate({selector(f'{name_of(metrics.FLAG_EVALUATIONS)}_total')}[$__rate_interval])) > 0"
APART = f"max({GENERATION} and on (instance) {TAKING}) - min({GENERATION} and on (instance) {TAKING})"
CHOSEN_SHARE = f"{rate(metrics.FLAG_EVALUATIONS, 'backend')} / on () group_left () {rate(metrics.FLAG_EVALUATIONS)}"


def latency(name: str, fraction: float, histogram: Histogram, description: str) -> list[Panel]:
    """The two side by side over time, and their ratio now."""
    sides = [(CANDIDATE, "$candidate"), (BASELINE, "$baseline")]
    now = " / ".join(quantile(fraction, histogram, where=where) for where, _ in sides)
    return [
        number(
            f"{name}, $candidate ÷ $baseline",
            f"How many times as long it takes through $candidate. {description}",
            RATIO,
            Query(now, "ratio"),
            width=6,
            bad_from=1.5,
            height=TALL,
        ),
        lines(
            f"{name}, side by side",
            description,
            SECONDS,
            *(Query(quantile(fraction, histogram, where=where), legend) for where, legend in sides),
            width=18,
            log=True,
            exemplars=True,
        ),
    ]


def both(counter: Counter, of: Counter, where: str = "") -> list[Query]:
    """The part of a whole, of the two."""
    sides = ((CANDIDATE, "$candidate"), (BASELINE, "$baseline"))
    return [Query(share(counter, of, where=where, side=side), legend) for side, legend in sides]


BOARD = Board(
    uid="streamgauge-rollout",
    title="streamgauge / Rollout",
    description="Who gets the candidate, which flag document each process follows, and how the candidate does beside "
    "its baseline at the same time.",
    leads_to="streamgauge-lifecycle",
    baseline="polling",
    candidate="pubsub",
    marks=[FLIPS],
    sections=[
        Section(
            "Share",
            [
                number(
                    "$candidate's share",
                    "Of the messages posted now. It follows the step of the rollout, as far as chance lets it.",
                    SHARE,
                    Query(
                        f"{rate(metrics.FLAG_EVALUATIONS, where=CANDIDATE)} / {rate(metrics.FLAG_EVALUATIONS)}", "share"
                    ),
                    height=TALL,
                ),
                lines(
                    "Share of each backend",
                    "What the flag, or a forced header, chose for new messages.",
                    SHARE,
                    Query(CHOSEN_SHARE),
                    width=10,
                ),
                lines(
                    "Backends chosen",
                    "How many messages stand behind those shares: few make any figure below a matter of chance.",
                    PER_SECOND,
                    Query(rate(metrics.FLAG_EVALUATIONS, "backend")),
                    width=10,
                ),
                number(
                    "Generations apart",
                    "Between processes that take messages. Above 0 for longer than a moment, a change is half done.",
                    COUNT,
                    Query(APART, "apart"),
                    bad_from=1,
                    height=TALL,
                ),
                lines(
                    "Flag generation",
                    "The document that each API follows, within a second.",
                    COUNT,
                    Query(largest(metrics.FLAG_GENERATION, "instance"), "{{instance}}"),
                    width=16,
                ),
                number(
                    "Processes with a broken document",
                    "They keep to the last good one: set the flag anew.",
                    COUNT,
                    Query(f"sum({selector(name_of(metrics.FLAG_BROKEN))})", "broken"),
                    bad_from=1,
                    height=TALL,
                ),
            ],
        ),
        Section(
            "Guarded rollout",
            [
                number(
                    "Step",
                    "What `streamgauge rollout --metrics-port` gives to the candidate now; nothing where none runs.",
                    SHARE,
                    Query(largest(STEP, "candidate"), "{{candidate}}"),
                    height=TALL,
                ),
                number(
                    "Failed intervals in a row",
                    "As many as the guard's `failures`, and everything goes back to the baseline.",
                    COUNT,
                    Query(largest(FAILURES, "candidate"), "{{candidate}}"),
                    bad_from=1,
                    height=TALL,
                ),
                number(
                    "The guard's newest judgement",
                    "Of each objective: 0 is a pass, 1 a hold (too few samples, or worse by no more than chance), "
                    "2 a fail.",
                    COUNT,
                    Query(largest(VERDICT, "objective"), "{{objective}}"),
                    width=8,
                    doubt_from=1,
                    bad_from=2,
                    height=TALL,
                    named=True,
                ),
                lines(
                    "Intervals judged",
                    "By verdict. Holds alone mean that too few messages come for the interval.",
                    PER_SECOND,
                    Query(rate(JUDGEMENTS, "verdict"), "{{verdict}}"),
                    width=8,
                ),
            ],
        ),
        Section(
            "What a guard holds it to: latency",
            [
                *latency(
                    "Delivery p99",
                    0.99,
                    metrics.DELIVERY_SECONDS,
                    "From the producer holding a chunk to the socket write's return.",
                ),
                *latency(
                    "First token p95",
                    0.95,
                    metrics.FIRST_TOKEN_SECONDS,
                    "From the POST to the first content written; the model's own time is in it.",
                ),
                *latency(
                    "First byte p95",
                    0.95,
                    metrics.FIRST_BYTE_SECONDS,
                    "From a viewer's request to the first bytes of its body.",
                ),
            ],
        ),
        Section(
            "What a guard holds it to: failures",
            [
                lines(
                    "Failed share",
                    "Streams that ended in `failed`, of all that ended.",
                    SHARE,
                    *both(metrics.STREAMS_ENDED, metrics.STREAMS_ENDED, FAILED),
                ),
                lines(
                    "Lost share",
                    "Streams closed because their producer was gone, of all that ended.",
                    SHARE,
                    *both(metrics.REAPED, metrics.STREAMS_ENDED),
                ),
                lines(
                    "Repaired share",
                    "Reads of the log that filled a gap in what was heard, of all events sent. Viewers see no gap.",
                    SHARE,
                    *both(metrics.GAP_REPAIRS, metrics.EVENTS_SENT),
                ),
                lines(
                    "Repeated share",
                    "Appends that the store had already, of all appends.",
                    SHARE,
                    *both(metrics.DUPLICATE_APPENDS, metrics.CHUNKS_APPENDED),
                ),
            ],
        ),
    ],
)
