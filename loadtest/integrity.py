"""What is wrong with one stream, judged by its row alone. Proof, not hope: nothing is taken from the server's word."""

from enum import StrEnum

import msgspec

from loadtest.recorder import TERMINALS, StreamRow


class Fault(StrEnum):
    """The ways a stream can be broken; a stream may have several."""

    HOLES = "holes"
    REPEATS = "repeats"
    OUT_OF_ORDER = "out_of_order"
    MISSING_TERMINAL = "missing_terminal"
    CONTENT_MISMATCH = "content_mismatch"
    FAILED = "failed"
    CENSORED = "censored"


def faults(row: StreamRow) -> frozenset[Fault]:
    """Every fault of this stream; empty means intact."""
    if row.outcome == "censored":
        return frozenset({Fault.CENSORED})
    seen = since_told_to_begin_anew(row)
    found = {
        Fault.HOLES: has_holes(seen),
        Fault.REPEATS: len(set(seen.indexes)) < len(seen.indexes),
        Fault.OUT_OF_ORDER: is_out_of_order(seen),
        Fault.MISSING_TERMINAL: row.first_byte_ns is not None and row.terminal_ns is None,
        Fault.CONTENT_MISMATCH: has_content_mismatch(row),
        Fault.FAILED: why_failed(row) is not None,
    }
    return frozenset(fault for fault, present in found.items() if present)


def since_told_to_begin_anew(row: StreamRow) -> StreamRow:
    """What came after the server told a viewer who came back to discard all it had: the log follows from its beginning.

    It does so where the viewer's last event id means nothing to it, as while the stream's store is away.
    """
    begins = max((place for place, index in enumerate(row.indexes) if index < 0), default=-1) + 1
    return msgspec.structs.replace(row, indexes=row.indexes[begins:], kinds=row.kinds[begins:]) if begins else row


def has_holes(row: StreamRow) -> bool:
    """Whether an index is missing before one that came. A reset may begin anywhere: it discards all before it."""
    seen = set(row.indexes)
    resets = {index for index, kind in zip(row.indexes, row.kinds, strict=True) if kind == "reset"}
    return any(index and index - 1 not in seen and index not in resets for index in seen)


def is_out_of_order(row: StreamRow) -> bool:
    """Whether an index came after a higher one, other than as a repeat of what had been seen."""
    seen: set[int] = set()
    for index in row.indexes:
        if index not in seen and seen and index < max(seen):
            return True
        seen.add(index)
    return False


def has_content_mismatch(row: StreamRow) -> bool:
    """Whether the joined text, as a client that obeys resets shows it, differs from the committed message."""
    return row.committed is not None and joined(row) != row.committed.content


def joined(row: StreamRow) -> str:
    """The text a client holds at the end: what came before a reset is thrown away."""
    parts: list[str] = []
    for kind, content in zip(row.kinds, row.contents, strict=True):
        if kind == "reset":
            parts.clear()
        elif kind == "content":
            parts.append(content)
    return "".join(parts)


def why_failed(row: StreamRow) -> str | None:
    """The reason a stream that ran to its end is no success, or null."""
    if row.outcome == "failed":
        return row.error or "failed"
    # Whether a stream may leave the backend that the flag chose is not seen from it alone: `continuity` judges that.
    if not row.flagged and row.committed is not None and row.committed.backend not in (row.backend, None):
        return f"served by {row.committed.backend} instead of {row.backend}"
    if any(name != str(index) for name, index in zip(row.event_ids, row.indexes, strict=True) if index >= 0):
        return "an event's id differs from its chunk_index"
    terminals = [kind for kind in row.kinds if kind in TERMINALS]
    is_cancelled = row.cancelled_ns is not None and not _had_been_said(row)
    wanted = "cancelled" if is_cancelled else "done"
    if terminals and (terminals[0] != wanted or row.kinds[-1] != wanted):
        return f"ended with {row.kinds[-1]}" + (", though it was cancelled" if is_cancelled else "")
    if is_cancelled and row.committed is not None and row.committed.status != "cancelled":
        return f"cancelled, but its message was committed as {row.committed.status}"
    return None


def _had_been_said(row: StreamRow) -> bool:
    """Whether the answer was complete but for its end when the cancel was taken; a chunk may have been on its way."""
    taken_ns = row.cancel_taken_ns
    if taken_ns is None or row.committed is None or row.committed.status != "complete":
        return False
    return sum(at > taken_ns for kind, at in zip(row.kinds, row.received_ns, strict=True) if kind == "content") <= 1
