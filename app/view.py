"""One viewer's stream: its entries become SSE frames; keep-alive, catch-up, hand-over, and the reaping of the lost."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, monotonic_ns, time_ns
from uuid import UUID

from prometheus_client import Counter, Gauge

from app.database import DatabaseError
from app.frames import Frames, frame, rebuilt, reset_frame, retry_line
from app.outlet import Outlet
from app.records import Pin, Records
from app.repair import reap
from app.settings import Settings
from app.streaming.contract import (
    Entry,
    StoreUnavailableError,
    StreamError,
    StreamMissingError,
)
from app.streaming.pairs import Backends
from app.telemetry import logs, metrics, tracing
from app.telemetry.hot import HotCounter, HotHistogram

log = logging.getLogger(__name__)

LOST_RETRY_S = 0.2


@dataclass(frozen=True, slots=True)
class Meters:
    """What is counted of a viewer, at each write and while it is there, with its label looked up."""

    delivery: HotHistogram
    transit: HotHistogram
    write: HotHistogram
    inter_chunk: HotHistogram
    events: HotCounter
    sent_bytes: HotCounter
    replayed: Counter
    viewers: Gauge


@functools.cache
def meters_of(backend: str) -> Meters:
    """Give the meters of one backend's streams."""
    return Meters(
        delivery=metrics.DELIVERY_SECONDS.labels(backend),
        transit=metrics.TRANSIT_SECONDS.labels(backend),
        write=metrics.WRITE_SECONDS.labels(backend),
        inter_chunk=metrics.INTER_CHUNK_SECONDS.labels(backend),
        events=metrics.EVENTS_SENT.labels(backend),
        sent_bytes=metrics.BYTES_SENT.labels(backend),
        replayed=metrics.EVENTS_REPLAYED.labels(backend),
        viewers=metrics.VIEWERS.labels(backend),
    )


@dataclass(frozen=True, slots=True)
class Joining:
    """Where a viewer begins. `reset` tells it first to discard its text; `tail` is what was stored when it came."""

    start: int
    reset: bool
    tail: int


class View:
    """One viewer's stream, sent through an outlet."""

    __slots__ = (
        "_asked_ns", "_backends", "_ended", "_exemplars", "_frames", "_lost_since", "_meters", "_outlet", "_pin",
        "_position", "_quiet_ns", "_records", "_reset", "_resumed", "_sent", "_settings", "_span", "_tail", "_task_id",
        "_written_ns",
    )  # fmt: skip

    def __init__(
        self,
        settings: Settings,
        records: Records,
        backends: Backends,
        frames: Frames,
        task_id: UUID,
        pin: Pin,
        joining: Joining,
        asked_ns: int,
    ) -> None:
        self._settings, self._records, self._backends, self._frames = settings, records, backends, frames
        self._task_id, self._pin, self._meters = task_id, pin, meters_of(pin.backend)
        self._position, self._reset, self._tail = joining.start, joining.reset, joining.tail
        self._exemplars = tracing.Exemplars(task_id)
        self._asked_ns, self._written_ns = asked_ns, 0
        self._quiet_ns, self._lost_since = monotonic_ns(), 0.0
        self._ended, self._sent, self._resumed = False, 0, joining.start > 0 or joining.reset
        self._span = tracing.NOT_TRACED
        self._outlet: Outlet

    @property
    def backend(self) -> str:
        """The backend that holds the stream now."""
        return self._pin.backend

    def traced(self) -> contextlib.AbstractContextManager[None]:
        """Trace this view for the length of the block: it resumed or not, what it sent, whether it saw the end."""
        return self._traced() if tracing.is_on() else contextlib.nullcontext()

    @contextlib.contextmanager
    def _traced(self) -> Iterator[None]:
        with tracing.viewer_span(
            self._task_id, backend=self.backend, resumed=self._resumed, start=self._position
        ) as self._span:
            if self._resumed:
                tracing.event("resume", start=self._position)
            try:
                yield
            finally:
                tracing.note(events=self._sent, ended=self._ended)

    async def serve(self, outlet: Outlet) -> None:
        """Send everything until the terminal, following the stream when it is handed over."""
        self._outlet = outlet
        self._meters.viewers.inc()
        try:
            await self._serve()
        finally:
            self._meters.viewers.dec()

    async def _serve(self) -> None:
        await self._outlet.send(retry_line())
        metrics.FIRST_BYTE_SECONDS.labels(self.backend).observe(
            (time_ns() - self._asked_ns) / 1e9, tracing.exemplar(self._task_id)
        )
        if self._tail >= self._position:
            metrics.REPLAY_EVENTS.labels(self.backend).observe(self._tail - self._position + 1)
        if self._reset:
            await self._outlet.send(reset_frame())
        while not self._ended:
            lost = self.backend
            try:
                await self._follow()
            except (StoreUnavailableError, StreamMissingError) as error:
                await self._mind_loss(lost, error)

    async def _follow(self) -> None:
        """Send what the backend of the moment has, until the terminal or its loss."""
        following = self._backends.readers[self.backend].follow(self._task_id, self._position, self._take)
        async with contextlib.aclosing(following) as batches:
            async for entries in batches:
                self._lost_since = 0.0
                if entries:
                    await self._send(entries)
                elif note := await self._mind_silence():
                    await self._outlet.send(note)

    async def _send(self, entries: list[Entry]) -> None:
        """Send a batch in one write, as fast as the viewer takes it."""
        held_ns, data = monotonic_ns(), b"".join(map(frame, entries))
        self._position = entries[-1].index + 1
        self._ended = entries[-1].is_terminal
        await self._outlet.send(data)
        self._observe(entries, len(data), held_ns)

    def _take(self, entry: Entry) -> bool:
        """Send an entry where it was heard, with no task's waking and no queue in between, if the viewer has room."""
        held_ns, data = monotonic_ns(), self._frames.of(entry)
        if not self._outlet.offer(data):
            return False
        self._position = entry.index + 1
        self._observe((entry,), len(data), held_ns)
        return True

    def _observe(self, entries: Sequence[Entry], size: int, held_ns: int) -> None:
        """Count entries that reached the socket; those stored before the viewer came are replays, not deliveries."""
        now_ns, meters, count = monotonic_ns(), self._meters, len(entries)
        replayed = 0 if entries[0].index > self._tail else sum(entry.index <= self._tail for entry in entries)
        wall_ns, write_s, exemplar = time_ns(), (now_ns - held_ns) / 1e9, self._exemplars.take()
        for entry in entries[replayed:] if replayed else entries:
            delivery_s = (wall_ns - entry.ts_ns) / 1e9
            meters.delivery.observe(delivery_s, exemplar)
            meters.transit.observe(delivery_s - write_s, exemplar)
        meters.events.inc(count)
        meters.sent_bytes.inc(size)
        meters.write.observe(write_s, exemplar)
        if replayed:
            meters.replayed.inc(replayed)
        if self._written_ns:
            meters.inter_chunk.observe((now_ns - self._written_ns) / 1e9, exemplar)
        else:
            self._observe_first(entries[0], wall_ns)
        self._written_ns = self._quiet_ns = now_ns
        self._sent += count

    def _observe_first(self, entry: Entry, now_ns: int) -> None:
        tracing.event("first_chunk", self._span, index=entry.index)  # what hears a chunk is not this view's task
        if entry.index == 0 and self._tail < 0 and not entry.is_terminal:
            posted_s = self._pin.message.created_at.timestamp()
            seconds = max(0.0, now_ns / 1e9 - posted_s)
            metrics.FIRST_TOKEN_SECONDS.labels(self.backend).observe(seconds, tracing.exemplar(self._task_id))

    async def _mind_silence(self) -> bytes | None:
        """Say that the connection lives and how fresh the producer's lease is; close the stream if that is lost.

        Raises `StreamMissingError` if it was handed over without a word here.
        """
        reader = self._backends.readers[self.backend]
        status = await reader.status(self._task_id)
        if status is None:
            raise StreamMissingError(f"stream {self._task_id} is gone")
        if status.state == "open" and status.lease_left_s < -self._settings.lease_grace_s:
            await reap(self._settings, self._records, self._backends, self.backend, self._task_id)
        if not self._is_quiet():
            return None
        await self._find_again(close=False)
        if self._backends.readers[self.backend] is not reader:  # its producer lost a store that we still reach
            raise StreamMissingError(f"stream {self._task_id} is in {self.backend} now")
        return b": keep-alive %.1f\n\n" % max(0.0, self._settings.lease_s - status.lease_left_s)

    def _is_quiet(self) -> bool:
        """Whether it is time for a sign of life; if it is, the caller gives it."""
        now_ns = monotonic_ns()
        if (now_ns - self._quiet_ns) / 1e9 < self._settings.keep_alive_s:
            return False
        self._quiet_ns = now_ns
        return True

    async def _mind_loss(self, lost: str, error: StreamError) -> None:
        """Look where the stream lives now; send the committed answer if nowhere else, or a sign of life."""
        self._lost_since = self._lost_since or monotonic()
        lost_s = monotonic() - self._lost_since
        patience = self._settings.lost_s
        await asyncio.sleep(LOST_RETRY_S)
        await self._find_again(close=lost_s > patience)
        if self.backend != lost:
            return  # its log is there
        if self._pin.message.status != "pending" and (isinstance(error, StreamMissingError) or lost_s > patience):
            await self._outlet.send(rebuilt(self._pin.message))
            self._ended = True
        elif self._is_quiet():
            await self._outlet.send(b": keep-alive %.1f\n\n" % lost_s)

    async def _find_again(self, *, close: bool) -> None:
        """Read the pin anew: the stream may have been handed over. `close` it if its producer is lost as well."""
        before = self.backend
        try:
            if close and await self._records.close_lost(self._task_id):
                log.warning("closed stream %s: its store and its producer are lost", self._task_id)
                metrics.REAPED.labels(self.backend).inc()
            self._pin = await self._records.pin(self._task_id) or self._pin
        except DatabaseError as error:
            log.warning("can't look for stream %s: %s", self._task_id, error)
        if self.backend != before:
            self._meters.viewers.dec()
            self._meters = meters_of(self.backend)
            self._meters.viewers.inc()
            logs.moved(self.backend)
            tracing.event("hand_over", to=self.backend)
