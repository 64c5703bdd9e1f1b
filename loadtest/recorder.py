"""One immutable row per viewer of a stream: every instant and every chunk as seen there. No arithmetic happens here.

All instants are integer nanoseconds of the wall clock, null when the stream never got there.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, TypeVar
from typing import Protocol as Interface

import msgspec

from loadtest.plan import Arrival, Block, Protocol
from loadtest.sse import Event
from loadtest.viewers import Viewer

Outcome = Literal["ended", "failed", "censored"]
_Row = TypeVar("_Row", bound=msgspec.Struct)
TERMINALS = ("done", "failed", "cancelled")


class Record(msgspec.Struct, gc=False):
    """The JSON in an event's data, as far as the recorder reads it; more fields are allowed."""

    chunk_index: int
    chunk_type: str
    content: str
    attempt: int
    ts_ns: int
    deltas: int = 1
    code: str | None = None
    finish_reason: str | None = None


class Committed(msgspec.Struct, frozen=True):
    """The assistant's message as the server stored it, with the server's own instants."""

    status: str
    content: str
    backend: str | None
    completion_tokens: int | None
    accepted_ns: int | None
    requested_ns: int | None
    first_delta_ns: int | None
    last_delta_ns: int | None


class Resume(msgspec.Struct, frozen=True):
    """A connection that was dropped when so many events were seen, and opened again with the last one's id."""

    dropped_ns: int
    opened_ns: int
    events_before: int


class StreamRow(msgspec.Struct, frozen=True):
    """Everything known about one viewer's stream. The lists run parallel: one entry per event, in order of arrival.

    Viewer 0 asked the question; the POST's instants are on its row alone. `backend` is the one that was asked for or,
    where the system's flag chose (`flagged`), the one that the POST's answer named. `served` are those that the answers
    to this viewer's GETs named.
    """

    block: int
    arrival: int
    backend: str
    quartet: int | None
    counted: bool
    model: str | None
    planned_chunks: int | None
    outcome: Outcome
    error: str | None
    task_id: str | None
    intended_ns: int
    sent_ns: int | None
    accepted_ns: int | None
    opened_ns: int | None
    first_byte_ns: int | None
    terminal_ns: int | None
    closed_ns: int | None
    verified_ns: int | None
    event_ids: tuple[str, ...]
    indexes: tuple[int, ...]
    kinds: tuple[str, ...]
    attempts: tuple[int, ...]
    deltas: tuple[int, ...]
    contents: tuple[str, ...]
    produced_ns: tuple[int, ...]
    received_ns: tuple[int, ...]
    comments: tuple[str, ...]
    committed: Committed | None
    twin: bool = False
    viewer: int = 0
    slow: bool = False
    resumes: tuple[Resume, ...] = ()
    cancelled_ns: int | None = None
    cancel_taken_ns: int | None = None
    protocol: Protocol = "streamgauge"
    flagged: bool = False
    served: tuple[str | None, ...] = ()


class Watcher(Interface):
    """Somebody who follows all recordings of this process while they run."""

    def began(self, recording: "Recording") -> None:
        """One begins."""
        ...

    def ended(self, recording: "Recording", row: StreamRow) -> None:
        """It has become this row."""
        ...


WATCHERS: list[Watcher] = []
"""Nobody, unless the run is exposed while it runs."""


class Recording:
    """A stream being recorded; `row` freezes it as ended, failed (with the error) or censored at the stop."""

    def __init__(self, block: Block, arrival_index: int, intended_ns: int, number: int = 0) -> None:
        self._block = block
        self._arrival_index = arrival_index
        self._number = number
        self.arrival: Arrival = block.arrivals[arrival_index]
        self.viewer: Viewer = self.arrival.viewers[number]
        self.protocol: Protocol = "streamgauge"
        self.intended_ns = intended_ns
        self.resumes: list[Resume] = []
        self.cancelled_ns: int | None = None
        self.cancel_taken_ns: int | None = None
        self.chosen: str | None = None
        self.served: list[str | None] = []
        self.task_id: str | None = None
        self.sent_ns: int | None = None
        self.accepted_ns: int | None = None
        self.opened_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.terminal_ns: int | None = None
        self.terminal: Record | None = None
        self.closed_ns: int | None = None
        self.verified_ns: int | None = None
        self.committed: Committed | None = None
        self.comments: list[str] = []
        self._events: list[tuple[str, Record, int]] = []
        for watcher in WATCHERS:
            watcher.began(self)

    @property
    def events(self) -> int:
        """How many events came so far."""
        return len(self._events)

    @property
    def last_event_id(self) -> str | None:
        """The id to resume with; null before the first event."""
        return self._events[-1][0] if self._events else None

    def event(self, event: Event, record: Record) -> None:
        """Note one event; a terminal is remembered with its instant."""
        self._events.append((event.id, record, event.at_ns))
        if record.chunk_type in TERMINALS and self.terminal is None:
            self.terminal, self.terminal_ns = record, event.at_ns

    def row(self, outcome: Outcome, error: str | None = None) -> StreamRow:
        """The finished row."""
        records = [record for _, record, _ in self._events]
        row = StreamRow(
            block=self._block.index,
            arrival=self._arrival_index,
            backend=self.arrival.backend or self.chosen or "",
            quartet=self._block.quartet,
            counted=self.arrival.counted,
            model=self.arrival.model,
            planned_chunks=self.arrival.chunks,
            outcome=outcome,
            error=error,
            task_id=self.task_id,
            intended_ns=self.intended_ns,
            sent_ns=self.sent_ns,
            accepted_ns=self.accepted_ns,
            opened_ns=self.opened_ns,
            first_byte_ns=self.first_byte_ns,
            terminal_ns=self.terminal_ns,
            closed_ns=self.closed_ns,
            verified_ns=self.verified_ns,
            event_ids=tuple(name for name, _, _ in self._events),
            indexes=tuple(record.chunk_index for record in records),
            kinds=tuple(record.chunk_type for record in records),
            attempts=tuple(record.attempt for record in records),
            deltas=tuple(record.deltas for record in records),
            contents=tuple(record.content for record in records),
            produced_ns=tuple(record.ts_ns for record in records),
            received_ns=tuple(at_ns for _, _, at_ns in self._events),
            comments=tuple(self.comments),
            committed=self.committed,
            twin=self._block.twin,
            viewer=self._number,
            slow=self.viewer.slow is not None,
            resumes=tuple(self.resumes),
            cancelled_ns=self.cancelled_ns,
            cancel_taken_ns=self.cancel_taken_ns,
            protocol=self.protocol,
            flagged=not self.arrival.backend,
            served=tuple(self.served),
        )
        for watcher in WATCHERS:
            watcher.ended(self, row)
        return row


class GeneratorRow(msgspec.Struct, frozen=True):
    """How a load generator itself fared during one block; `generator` is its number, where there are several."""

    block: int
    began_ns: int
    ended_ns: int
    cpu_ns: int
    loop_lag_ns: tuple[int, ...]
    generator: int = 0


def append(file: IO[bytes], rows: Iterable[msgspec.Struct]) -> None:
    """Write rows as JSON lines and hand them to the system, so that a killed process loses at most one block."""
    encoder = msgspec.json.Encoder()
    for row in rows:
        file.write(encoder.encode(row) + b"\n")
    file.flush()


def read_streams(path: Path) -> list[StreamRow]:
    """Every stream that was recorded; a last line cut short by a kill is left out."""
    return list(read(path, StreamRow))


def read_generator(path: Path) -> list[GeneratorRow]:
    """Every block's account of the generator."""
    return list(read(path, GeneratorRow))


def read(path: Path, kind: type[_Row]) -> Iterator[_Row]:
    """Every whole line of a file of rows; none if it is not there."""
    decoder = msgspec.json.Decoder(kind)
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield decoder.decode(line)
