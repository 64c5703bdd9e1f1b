"""One block of a plan, or a share of it, played at its intended instants whatever the server does."""

import time
from collections.abc import Sequence
from typing import Any

import gevent
import gevent.pool

from loadtest import plan as plans
from loadtest import recorder
from loadtest.scenarios import conversation, direct
from loadtest.scenarios.reader import WireError

# Often enough to see a pause of a few milliseconds, seldom enough to cost under 1 % of a core.
LAG_PROBE_S = 0.02
PREPARE_AT_ONCE = 20


class Lag:
    """Measures how late this process's own event loop runs: what it adds to every instant it stamps."""

    def __init__(self) -> None:
        self.samples_ns: list[int] = []

    def run(self) -> None:
        """Probe until killed."""
        wanted = round(LAG_PROBE_S * 1e9)
        while True:
            before = time.monotonic_ns()
            gevent.sleep(LAG_PROBE_S)
            self.samples_ns.append(max(0, time.monotonic_ns() - before - wanted))


class BlockRun:
    """Conversations are made beforehand, then each arrival of the share starts at its instant; rows are never lost."""

    def __init__(self, client: Any, plan: plans.Plan, block: plans.Block, share: Sequence[int]) -> None:
        self._client, self._plan, self._block, self._share = client, plan, block, share
        self._greenlets = gevent.pool.Group()
        self._live: dict[int, list[recorder.Recording]] = {}
        self._events_before = 0
        self.rows: list[recorder.StreamRow] = []
        self.done = 0

    @property
    def chunks(self) -> int:
        """Events seen so far."""
        return self._events_before + sum(one.events for viewers in self._live.values() for one in viewers)

    @property
    def open(self) -> int:
        """Messages in flight."""
        return len(self._greenlets)

    def prepare(self) -> list[str | WireError | None]:
        """Make the conversations, so that the measured POST is the first thing an arrival does; or say why not."""
        if self._plan.protocol == "openai":
            return [None] * len(self._share)
        pool = gevent.pool.Pool(PREPARE_AT_ONCE)
        makers = [pool.spawn(self._create) for _ in self._share]
        gevent.joinall(makers)
        return [maker.value for maker in makers]

    def play(self, conversations: list[str | WireError | None], began_ns: int) -> None:
        """Start every arrival at its intended instant, counted from `began_ns`, and wait until all are over."""
        for index, name in zip(self._share, conversations, strict=True):
            arrival = self._block.arrivals[index]
            intended_ns = began_ns + round(arrival.at_s * 1e9)
            gevent.sleep(max(0.0, (intended_ns - time.time_ns()) / 1e9))
            viewers = range(len(arrival.viewers))
            recordings = [recorder.Recording(self._block, index, intended_ns, viewer) for viewer in viewers]
            self._live[index] = recordings
            self._greenlets.spawn(self._converse, index, recordings, name)
        self._greenlets.join()

    def stop(self) -> None:
        """Cut off what is in flight; each such stream leaves a censored row."""
        self._greenlets.kill(block=True)

    def take_rows(self) -> list[recorder.StreamRow]:
        """What is finished and was not taken before."""
        rows, self.rows = self.rows, []
        return rows

    def _create(self) -> str | WireError:
        try:
            return conversation.create(self._client)
        except WireError as error:
            return error  # told by the row: no message is sent

    def _converse(self, index: int, recordings: list[recorder.Recording], name: str | WireError | None) -> None:
        rows = self._rows(recordings, name)
        self.rows += rows  # not in one: `rows` may be another list after the wait
        # Their events are in the rows now: a long run holds no more than what is open.
        self._events_before += sum(one.events for one in self._live.pop(index))
        self.done += 1

    def _rows(self, recordings: list[recorder.Recording], name: str | WireError | None) -> list[recorder.StreamRow]:
        if self._plan.protocol == "openai":
            return direct.complete(self._client, recordings[0], self._plan.stream_timeout_s)
        if not isinstance(name, str):
            return [one.row("failed", f"no conversation was made: {name}") for one in recordings]
        return conversation.converse(self._client, recordings, name, self._plan.stream_timeout_s)
