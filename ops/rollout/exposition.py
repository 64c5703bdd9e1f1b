"""What a rollout's record says, as Prometheus metrics while its controller runs: the guard's side of the page Rollout.

All of it is read from the record when somebody scrapes, so a rollout that was resumed counts on from where it was.
"""

import contextlib
import errno
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ops.ports import LOOPBACK
from ops.rollout.judge import Verdict
from ops.rollout.state import Journal
from ops.usage import UsageError

STEP, FAILURES, VERDICT = (f"streamgauge_rollout_{name}" for name in ("step_ratio", "failures", "verdict"))
JUDGEMENTS = "streamgauge_rollout_judgements"
METRICS = {STEP, FAILURES, VERDICT, f"{JUDGEMENTS}_total"}
SCORES = {Verdict.PASS: 0, Verdict.HOLD: 1, Verdict.FAIL: 2}


class Exposition(Collector):
    """The rollout in a folder: its step, and what the guard says of the candidate."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterable[Metric]:
        """Give everything to one scrape; nothing where there was no rollout."""
        state = self._journal.read()
        if state is None:
            return
        names, who = ["candidate", "baseline"], [state.candidate, state.baseline]
        step = GaugeMetricFamily(STEP, "Of new messages, by the step.", labels=names)
        step.add_metric(who, state.percent / 100)
        failures = GaugeMetricFamily(FAILURES, "Failed intervals in a row.", labels=names)
        failures.add_metric(who, state.failures)
        judged = self._journal.judgements()
        counts = Counter(judgement.verdict for judgement in judged)
        judgements = CounterMetricFamily(JUDGEMENTS, "Intervals judged.", labels=[*names, "verdict"])
        for verdict in Verdict:
            judgements.add_metric([*who, verdict], counts[verdict])
        verdicts = GaugeMetricFamily(
            VERDICT,
            "What the newest interval says of each objective: 0 pass, 1 hold, 2 fail.",
            labels=[*names, "objective"],
        )
        for check in judged[-1].checks if judged else ():
            verdicts.add_metric([*who, check.objective], SCORES[check.verdict])
        yield from (step, failures, judgements, verdicts)


@contextlib.contextmanager
def exposed(journal: Journal, port: int | None) -> Iterator[None]:
    """Serve them on loopback for the length of the block. Raises `UsageError` if the port is taken."""
    if port is None:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exposition(journal))
    try:
        server, thread = start_http_server(port, LOOPBACK, registry)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise UsageError(f"Port {port} is taken: choose another --metrics-port.") from error
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
