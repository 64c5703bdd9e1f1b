"""The stream contract: what every backend promises to the producer and to the viewers.

A stream is the answer to one message. Its chunks are counted from 0 without a hole; the last one is a terminal.

One jump is allowed: an attempt that found its forerunners' whole log lost can't know how far its viewers had come. It
begins with a `reset` at an index that none of them can have seen, so an old id still resumes at the right place.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType


class ChunkType(StrEnum):
    """What a chunk does to the client's text."""

    CONTENT = "content"
    RESET = "reset"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINALS = frozenset({ChunkType.DONE, ChunkType.FAILED, ChunkType.CANCELLED})
OPEN = "open"
"""The state of a stream that has no terminal yet; a closed stream's state is its terminal's type."""


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One stored record and one SSE event. `ts_ns` is the producer's wall clock when it held the last delta."""

    chunk_index: int
    chunk_type: ChunkType
    content: str
    attempt: int
    deltas: int
    ts_ns: int
    finish_reason: str | UnsetType = UNSET
    usage: dict[str, int] | UnsetType | None = UNSET
    code: str | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET


def first_index(attempt: int) -> int:
    """Give the index at which an attempt begins that found the log of all earlier ones lost."""
    return (attempt - 1) * 1_000_000


class _Head(msgspec.Struct):
    chunk_index: int
    chunk_type: ChunkType
    ts_ns: int = 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A chunk on its way to a viewer: its place, its type, its stamp, and its record as JSON, still encoded."""

    index: int
    kind: ChunkType
    ts_ns: int
    record: bytes

    @property
    def is_terminal(self) -> bool:
        """Tell whether the stream ends here."""
        return self.kind in TERMINALS


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(_Head).decode
_chunk = msgspec.json.Decoder(Chunk).decode


def encode(chunk: Chunk) -> bytes:
    """Write a chunk as its JSON record."""
    return _encode(chunk)


def decode(record: bytes) -> Chunk:
    """Read a JSON record back; `msgspec.DecodeError` when it is none."""
    return _chunk(record)


def entry_of(record: bytes) -> Entry:
    """Wrap a JSON record, decoding no more of it than delivery needs."""
    head = _head(record)
    return Entry(head.chunk_index, head.chunk_type, head.ts_ns, record)


def text_of(chunks: Iterable[Chunk]) -> str:
    """Give the text that a viewer of these chunks shows: a reset discards what came before."""
    texts = list[str]()
    for chunk in chunks:
        if chunk.chunk_type is ChunkType.RESET:
            texts.clear()
        texts.append(chunk.content)
    return "".join(texts)


class Outcome(StrEnum):
    """What the store answered to an append.

    `duplicate` is the answer to the same index again after a lost reply: a success. `closed` is also the answer to an
    index that somebody else's terminal holds.
    """

    OK = "ok"
    DUPLICATE = "duplicate"
    FENCED = "fenced"
    CLOSED = "closed"
    GAP = "gap"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Answer:
    """The store's answer to an append or a renewal; `cancelled` says that somebody asked to stop."""

    outcome: Outcome
    cancelled: bool = False


STORED = Answer(Outcome.OK)
"""The usual answer; a lane gives this very object, so that it can be told by its identity."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A producer's right to append: its attempt, and the index that comes next."""

    attempt: int
    next_index: int


@dataclass(frozen=True, slots=True)
class Status:
    """A stream as its store knows it. `lease_left_s` is negative once the producer's lease has run out."""

    state: str
    attempt: int
    next_index: int
    last_reset: int
    lease_left_s: float

    def explains(self, start: int, log: "list[Entry]") -> bool:
        """Tell whether a log read from `start` on, after this, is whole: no part of it has expired."""
        if log:
            return log[0].index == start or log[0].kind is ChunkType.RESET
        return start >= self.next_index

    def ended_before(self, start: int) -> bool:
        """Tell whether the stream is over and has nothing from `start` on."""
        return self.state != OPEN and start >= self.next_index


class StreamError(Exception):
    """Base of what a backend raises."""


class StreamMissingError(StreamError):
    """The store does not hold this stream: it expired, it was flushed, or it never was."""


class StreamOverError(StreamError):
    """The stream has its terminal; nothing more may be appended."""


class FencedError(StreamError):
    """A newer attempt has taken this stream: stop at once and leave it alone."""


class StoreUnavailableError(StreamError):
    """The store did not answer; the stream itself may be well. Try again, or hand the stream over."""


class StreamWriter(Protocol):
    """The producer's side: ordered, fenced by attempt, nothing after a terminal.

    Every method raises `StoreUnavailableError` when the store can't be reached.
    """

    async def create(self, task_id: UUID) -> None:
        """Make the stream known before its task is enqueued. Doing it again changes nothing."""

    async def discard(self, task_id: UUID) -> None:
        """Undo `create` for a stream whose task could not be enqueued."""

    async def open(self, task_id: UUID, attempt: int) -> Opening:
        """Begin this attempt, fencing all earlier ones. Doing it again is harmless.

        Attempts are numbered where every stream has a row, in PostgreSQL, by the worker's claim; the store holds them
        to that order. Raises `FencedError` once a newer one has begun, `StreamOverError` or `StreamMissingError`.
        """

    async def append(self, task_id: UUID, chunk: Chunk) -> Answer:
        """Store one chunk, move the index, set the end state and wake viewers: all or nothing.

        It may renew the lease as well; a producer renews it all the same.
        """

    async def renew(self, task_id: UUID, attempt: int) -> Answer:
        """Renew the producer's lease, and with it the stream's lifetime in the store."""

    async def wait_cancel(self, task_id: UUID) -> None:
        """Return once somebody asked to cancel this stream; until then, wait. Any number may wait."""

    async def cancel(self, task_id: UUID) -> str:
        """Ask the producer to stop; answers the stream's state. Raises `StreamMissingError`."""


Heard = Callable[[Answer | StoreUnavailableError], None]
"""Gets the answer to one append, or why there is none."""


@runtime_checkable
class SwiftWriter(Protocol):
    """What a writer may offer besides: content appended without a task that waits. `append` remains for the rest."""

    def lane(self, task_id: UUID, attempt: int, heard: Heard) -> Callable[[Chunk], None]:
        """Give a function that begins an append of one content chunk, on which the same is promised as on `append`.

        Each of its calls is answered by one call of `heard`, after it has returned. One at a time: the next append
        follows the answer. After a `StoreUnavailableError` the chunk may or may not be stored: `append` it again.
        """


class StreamReader(Protocol):
    """The viewer's side: from any index on, in order, without a hole or a repeat, ending after the terminal.

    Every method raises `StoreUnavailableError` when the store can't be reached.
    """

    def follow(self, task_id: UUID, start: int) -> AsyncIterator[list[Entry]]:
        """Yield batches of entries from `start` on, and an empty batch after every silence.

        Ends after the terminal, or at once if that lies before `start`. Raises `StreamMissingError` once the store no
        longer holds the stream.
        """

    async def get_chunks(self, task_id: UUID, start: int = 0) -> list[Entry]:
        """Give the stored entries from `start` on, for late joiners; empty when there are none."""

    async def status(self, task_id: UUID) -> Status | None:
        """Give the stream's state, or None when the store does not hold it."""

    async def reap(self, task_id: UUID, chunk: Chunk, grace_s: float) -> bool:
        """Close a stream whose lease ran out more than `grace_s` ago with this terminal.

        `chunk_index` and `attempt` of the terminal are the store's to set. True for exactly one of many callers.
        """
