"""Several load generators as one, over Locust's own messages: its master deals the plan out, its workers play together.

    worker → master  hello, ready, progress, rows, bye          master → worker  deal, go, got, stop

Each arrival of the plan belongs to one worker, by its number; each block begins on all of them at one instant of the
target's clock. Rows reach the master at each block's end, and the run ends with a handshake: every worker, stopped or
not, hands in what was in flight as censored and says goodbye, and only then does Locust's own quit go out. A worker
that is lost ends the run; its streams of that block have no row, and are counted as censored from the plan.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.queue
import msgspec
from locust import events
from locust.runners import STATE_MISSING

from loadtest import clock, merging, recorder
from loadtest import plan as plans
from loadtest.clock import Offset
from loadtest.scenarios.lines import Control, Files

PREFIX = "streamgauge_"
HELLO, READY, PROGRESS, ROWS, BYE = (PREFIX + name for name in ("hello", "ready", "progress", "rows", "bye"))
DEAL, GO, GOT, STOP = (PREFIX + name for name in ("deal", "go", "got", "stop"))
# Longer than a message takes to the furthest worker, so that all of them begin together.
START_IN_S = 0.5
LOOK_S = 0.5
BYE_WITHIN_S = 10.0
_JSON = msgspec.json.Encoder()


def _offset(target: str, protocol: str) -> Offset:
    """A model that is asked directly has no clock to ask, and tells no instants to be corrected."""
    return clock.offset(target) if protocol == "streamgauge" else Offset(same_host=True, offset_ns=0, bound_ns=0)


class Member:
    """A worker's line: everything goes to the master."""

    def __init__(self, environment: Any) -> None:
        self._runner = environment.runner
        self._environment = environment
        self._dealt = gevent.event.AsyncResult()
        self._answers: gevent.queue.Queue[Any] = gevent.queue.Queue()
        self._playing: Any = None
        self._before: Offset | None = None
        for name, listener in ((DEAL, self._deal), (GO, self._answer), (GOT, self._answer), (STOP, self._stop)):
            self._runner.register_message(name, listener)

    def plan(self) -> plans.Plan:
        """As the master deals it; the clock is compared before anything is measured."""
        self._playing = gevent.getcurrent()
        self._runner.send_message(HELLO, {})
        data = self._dealt.get()
        self._number, self._of = data["number"], data["of"]
        played = msgspec.json.decode(data["plan"], type=plans.Plan)
        self._protocol = played.protocol
        self._before = _offset(self._environment.host, played.protocol)
        return played

    def share(self, arrivals: int) -> Sequence[int]:
        """Every so-manieth, beginning with its number."""
        return range(self._number, arrivals, self._of)

    def ready(self, block: int) -> int:
        """When all are, on our clock."""
        assert self._before is not None
        self._runner.send_message(READY, {"block": block})
        return int(self._answer_about(block)["at_ns"]) + self._before.offset_ns

    def tell(self, block: int, open_: int, done: int, chunks: int) -> None:
        """The master adds it up."""
        self._runner.send_message(PROGRESS, {"block": block, "open": open_, "done": done, "chunks": chunks})

    def hand_in(self, rows: Sequence[recorder.StreamRow], account: recorder.GeneratorRow | None = None) -> None:
        """On the target's clock."""
        assert self._before is not None
        moved = [merging.on_the_targets_clock(row, self._before) for row in rows]
        own = account and msgspec.structs.replace(account, generator=self._number)
        self._runner.send_message(ROWS, {"rows": _JSON.encode(moved), "account": own and _JSON.encode(own)})

    def over(self, block: int) -> None:
        """When all have handed in."""
        self._answer_about(block)

    def end(self) -> None:
        """The master knows."""

    def close(self) -> None:
        """Say goodbye, from a greenlet of its own: a stop may already be on its way to the one that plays."""
        self._playing = None
        gevent.spawn(self._say_goodbye).join()

    def _say_goodbye(self) -> None:
        """With what the clocks say now."""
        clocks = None
        if self._before is not None:
            try:
                after = _offset(self._environment.host, self._protocol)
            except OSError:
                after = None  # a server that is gone leaves the first comparison
            clocks = _JSON.encode(merging.Clocks(self._runner.client_id, self._before, after))
        self._runner.send_message(BYE, {"clocks": clocks})

    def _answer_about(self, block: int) -> Any:
        return next(one for one in iter(self._answers.get, None) if one["block"] == block)

    def _deal(self, msg: Any, **_: Any) -> None:
        self._dealt.set(msg.data)

    def _answer(self, msg: Any, **_: Any) -> None:
        self._answers.put(msg.data)

    def _stop(self, **_: Any) -> None:
        playing, self._playing = self._playing, None  # a second stop must not cut off what the first one has begun
        if playing is not None:
            playing.kill(block=False)


class LostError(RuntimeError):
    """A worker is gone; what it had not handed in is lost with it."""


class Conductor:
    """The master's side: deals out, begins each block, collects. It plays nothing itself."""

    def __init__(self, environment: Any) -> None:
        options = environment.parsed_options
        self._environment, self._runner = environment, environment.runner
        self._plan = plans.load(Path(options.plan))
        self._expected = options.expect_workers
        self._control = Control(options.control_fd)
        self._files = Files(Path(options.results))
        self._inbox: gevent.queue.Queue[Any] = gevent.queue.Queue()
        self._team: list[str] = []
        self._gone: set[str] = set()
        self._parting = False
        self._seen: dict[str, dict[str, int]] = {}
        for name in (HELLO, READY, PROGRESS, ROWS, BYE):
            self._runner.register_message(name, self._heard)
        events.test_start.add_listener(self._begin)
        events.quitting.add_listener(self._part)
        events.quit.add_listener(lambda **_: self._files.locust_tables(environment))

    def _heard(self, msg: Any, **_: Any) -> None:
        self._inbox.put(msg)

    def _begin(self, **_: Any) -> None:
        gevent.spawn(self._conduct)

    def _conduct(self) -> None:
        try:
            self._each(HELLO, lambda msg: self._team.append(msg.node_id))
            offset = _offset(self._environment.host, self._plan.protocol)
            for number, name in enumerate(self._team):
                dealt = {"plan": _JSON.encode(self._plan), "number": number, "of": len(self._team)}
                self._runner.send_message(DEAL, dealt, name)
            for block in self._plan.blocks:
                self._block(block.index, offset)
            self._control.ask(event="end")
        except (LostError, OSError) as error:
            logging.getLogger(__name__).error("the run can't go on: %s", error)  # noqa: TRY400 - told in one line
            self._environment.process_exit_code = 1
        self._part()
        self._runner.quit()

    def _block(self, block: int, offset: Offset) -> None:
        self._each(READY)
        self._control.ask(event="ready", block=block)
        starts_ns = time.time_ns() + round(START_IN_S * 1e9) - offset.offset_ns
        self._runner.send_message(GO, {"block": block, "at_ns": starts_ns})
        self._seen = {}
        self._each(ROWS)
        self._control.ask(event="over", block=block)
        self._runner.send_message(GOT, {"block": block})

    def _each(self, wanted: str, then: Callable[[Any], object] = lambda _: None) -> None:
        """Wait until every worker has sent this, of rows the last of a block; what else comes is dealt with."""
        missing = self._expected
        while missing:
            msg = self._next()
            if msg is None:
                continue
            is_last = msg.type == wanted and (wanted != ROWS or msg.data["account"])
            self._deal_with(msg)
            if msg.type == BYE and not self._parting:
                raise LostError(f"worker {msg.node_id} has left before the end, and its log says why")
            if is_last:
                then(msg)
                missing -= 1

    def _next(self) -> Any:
        """A message; none after a while without. What others go on telling must not hide that one is lost."""
        try:
            msg = self._inbox.get(timeout=LOOK_S)
        except gevent.queue.Empty:
            msg = None
        if (msg is None or msg.type == PROGRESS) and self._inbox.empty() and (lost := self._lost()):
            raise LostError(f"worker {', '.join(sorted(lost))} is lost")
        return msg

    def _lost(self) -> set[str]:
        alive = {one.id for one in self._runner.clients.all if one.state != STATE_MISSING}
        if len(self._team) < self._expected and len(alive) < self._expected:
            return {"that had not said hello"}
        return set(self._team) - alive - self._gone

    def _deal_with(self, msg: Any) -> None:
        if msg.type == ROWS:
            self._files.append("streams", msgspec.json.decode(msg.data["rows"], type=list[recorder.StreamRow]))
            if msg.data["account"]:
                account = msgspec.json.decode(msg.data["account"], type=recorder.GeneratorRow)
                self._files.append("generator", [account])
        elif msg.type == PROGRESS:
            self._seen[msg.node_id] = msg.data
            added = {name: sum(one[name] for one in self._seen.values()) for name in ("open", "done", "chunks")}
            self._control.tell(event="progress", block=msg.data["block"], **added)
        elif msg.type == BYE:
            self._gone.add(msg.node_id)
            if msg.data["clocks"]:
                clocks = msgspec.json.decode(msg.data["clocks"], type=merging.Clocks)
                self._files.append("clocks", [clocks])

    def _part(self, **_: Any) -> None:
        """The last handshake: whoever still plays is stopped and hands in what was in flight."""
        self._parting = True
        if set(self._team) - self._gone - self._lost():
            self._runner.send_message(STOP, {})
        limit = time.monotonic() + BYE_WITHIN_S
        while set(self._team) - self._gone - self._lost() and time.monotonic() < limit:
            try:
                self._deal_with(self._inbox.get(timeout=LOOK_S))
            except gevent.queue.Empty:
                continue
