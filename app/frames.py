"""Entries as SSE events, and the events that no log holds."""

import random
from time import time_ns
from typing import Any

from app.records import Told
from app.streaming.contract import Chunk, ChunkType, Entry, encode, entry_of

RETRY_MS = (800, 1200)
"""The first line's `retry:`, with jitter, so that the viewers of a lost server do not come back as one."""
REBUILT_END = 999_000_002
"""The terminal's index of an answer that was rebuilt from its message, after a `reset` and one `content`."""
ENDED = {"complete": ChunkType.DONE, "failed": ChunkType.FAILED, "cancelled": ChunkType.CANCELLED}


def frame(entry: Entry) -> bytes:
    """Write one SSE event: the index as its id, the record as its data, no event name."""
    return b"id: %d\ndata: %b\n\n" % (entry.index, entry.record)


def retry_line() -> bytes:
    """Say when to come back after the connection's end."""
    return b"retry: %d\n\n" % random.randint(*RETRY_MS)  # noqa: S311 - jitter guards nothing


def _synthetic(index: int, kind: ChunkType, content: str = "", **more: Any) -> Entry:
    return entry_of(encode(Chunk(index, kind, content, 0, 1, time_ns(), **more)))


def reset_frame() -> bytes:
    """Write a `reset` without an id: it tells a viewer to discard its text, and is no part of the stream."""
    return b"data: %b\n\n" % _synthetic(-1, ChunkType.RESET).record


class Frames:
    """Frames of entries; one that all viewers of a stream are offered in turn is written once."""

    __slots__ = ("_entry", "_frame")

    def __init__(self) -> None:
        self._entry: Entry | None = None
        self._frame = b""

    def of(self, entry: Entry) -> bytes:
        """Give the frame of an entry."""
        if entry is not self._entry:
            self._entry, self._frame = entry, frame(entry)
        return self._frame


def rebuilt(message: Told) -> bytes:
    """Write the whole answer from the committed message, for a stream whose log has expired.

    Its indexes are beyond those of any log, so that who has seen this end is told from who had seen a part.
    """
    kind = ENDED[message.status]
    more: dict[str, Any] = {}
    if kind is ChunkType.DONE:
        more = {"finish_reason": message.finish_reason or "stop", "usage": message.usage}
    elif kind is ChunkType.FAILED:
        more = {"code": message.code or "internal", "retryable": message.retryable is not False}
    answer = (
        _synthetic(REBUILT_END - 2, ChunkType.RESET),
        _synthetic(REBUILT_END - 1, ChunkType.CONTENT, message.content),
        _synthetic(REBUILT_END, kind, **more),
    )
    return b"".join(map(frame, answer))
