"""Scenarios as Locust's own users, for its page and command line: `locust -f loadtest/scenarios/reconnect.py`.

Each user asks, watches as its scenario says, and asks again, so the load is closed: for open arrivals, backends in turn
and figures with intervals there is `streamgauge bench --scenario reconnect`. Beside the requests, Locust's table gets a
line for each figure of a stream. A stream that was not whole is a failure there; those that the stop cut off are none,
and have a line of their own.
"""

import random
import time
from typing import Any

from locust import FastHttpUser, events, task
from locust.exception import StopUser

from loadtest import catalogue, extras, recorder, summary
from loadtest.clock import Offset
from loadtest.integrity import faults, why_failed
from loadtest.plan import MODEL_TTFT_S, PROMPTS, Arrival, Block
from loadtest.recorder import Recording, StreamRow
from loadtest.scenarios import conversation, direct
from loadtest.scenarios.reader import WireError
from loadtest.scenarios.viewing import CUT_OFF

# Delivery is judged by the producer's clock: between hosts only `streamgauge bench` knows how far it is from ours.
HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)
SLACK_S = 30.0


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]  # locust publishes no types
def _options(parser: Any) -> None:
    parser.add_argument("--backend", default="", help="of every message; empty leaves it to the system's flag")
    parser.add_argument("--chunks", type=int, default=100, help="the length of an answer")
    parser.add_argument("--chunk-rate", type=float, default=20.0, help="chunks per second of one answer")
    parser.add_argument(
        "--model", default="scripted", help="empty: the system's own (for a model that is not scripted)"
    )
    parser.add_argument("--rows", default="", help="a file to which every viewer's row is appended (JSON lines)")


class Talker(FastHttpUser):  # type: ignore[misc]
    """One message after the other, each watched as the scenario says."""

    abstract = True
    concurrency = 1000
    scenario = "steady"

    @task  # type: ignore[untyped-decorator]
    def talk(self) -> None:
        """The only task: Locust would run one of a subclass beside this one, not in its place."""
        self.turn()

    def turn(self) -> None:
        """Ask once and watch the answer."""
        rows = self.have_one(time.time_ns())
        if any(row.outcome == "censored" for row in rows):
            raise StopUser  # we have taken the stop for one of the stream alone

    def have_one(self, intended_ns: int, chunks: int | None = None) -> list[StreamRow]:
        """Have one conversation, tell Locust how it went, and give its viewers' rows; `chunks` is its own length."""
        length = chunks or self._option("chunks")
        block = Block(0, self._option("backend"), 0, 1, (self._arrival(length),))
        recordings = [Recording(block, 0, intended_ns, number) for number in range(len(block.arrivals[0].viewers))]
        limit_s = MODEL_TTFT_S + 2 * length / self._option("chunk_rate") + SLACK_S
        rows = self.converse(recordings, limit_s)
        self._tell(rows)
        return rows

    def converse(self, recordings: list[Recording], timeout_s: float) -> list[StreamRow]:
        """Play one message and give its viewers' rows."""
        try:
            name = conversation.create(self.client)
        except WireError as error:
            return [one.row("failed", str(error)) for one in recordings]
        return conversation.converse(self.client, recordings, name, timeout_s)

    def _arrival(self, chunks: int) -> Arrival:
        rate, model = self._option("chunk_rate"), self._option("model")
        source = random.Random()  # noqa: S311
        if model == "scripted":
            model += f"?ttft={MODEL_TTFT_S}&gap={1 / rate:.6g}&chunks={chunks}&seed={source.randrange(10**6)}"
        # Segments count from 1, and the slow viewers come in the second: users are in it by turns.
        watching = catalogue.SCENARIOS[self.scenario].watch(source, source.choice((1, 2)), chunks, rate)
        return Arrival(
            0.0, self._option("backend"), model or None, chunks, source.choice(PROMPTS), chunks, True, watching
        )

    def _option(self, name: str) -> Any:
        return getattr(self.environment.parsed_options, name)

    def _tell(self, rows: list[StreamRow]) -> None:
        streams = summary.measure(rows)
        for row in rows:
            took_ns = _minus(row.closed_ns, row.opened_ns)
            if row.outcome == "censored":
                self._fire("stream", self.scenario + CUT_OFF, took_ns or 0)
            else:
                self._fire("stream", self.scenario, took_ns, _why_broken(row))
        for name, value in (("ttfb", summary.ttfb_ns(rows[0])), ("ttft", summary.ttft_ns(rows[0]))):
            self._fire("figure", name, value)
        spreads = {"delivery_latency": summary.delivery_latency([one for one in streams if one.measured], HERE)}
        for name, spread in (spreads | extras.distributions(streams, HERE)).items():
            median = spread.percentile_s(50)
            self._fire("figure", f"{name} (median of a stream)", median and median * 1e9)
        if path := self._option("rows"):
            with open(path, "ab") as file:  # noqa: PTH123 - Locust runs it as it is given
                recorder.append(file, rows)

    def _fire(self, kind: str, name: str, took_ns: float | None, broken: str | None = None) -> None:
        if took_ns is None and broken is None:
            return
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=(took_ns or 0) / 1e6,
            response_length=0,
            exception=RuntimeError(broken) if broken else None,
            context={},
        )


class Asker(Talker):
    """The same of a model that is asked directly."""

    abstract = True

    def converse(self, recordings: list[Recording], timeout_s: float) -> list[StreamRow]:
        """Ask the model."""
        return direct.complete(self.client, recordings[0], timeout_s)


def _why_broken(row: StreamRow) -> str | None:
    found = faults(row)
    return why_failed(row) or ", ".join(sorted(found)) if found else None


def _minus(later: int | None, earlier: int | None) -> int | None:
    return None if later is None or earlier is None else later - earlier
