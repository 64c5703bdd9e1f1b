"""Hand-made rows for the pure parts of the load test: an intact stream, to be broken by `replace`."""

from typing import Any

import msgspec

from loadtest.recorder import Committed, StreamRow

MS = 1_000_000


def intact(
    *,
    block: int = 2,
    arrival: int = 1,
    backend: str = "polling",
    quartet: int = 0,
    chunks: int = 5,
    latency_ms: float = 50,
) -> StreamRow:
    """A stream whose chunks all took `latency_ms`, 50 ms apart, starting at a round instant."""
    start = 1_000_000_000 * MS + block * 1000 * MS
    made = tuple(start + 200 * MS + index * 50 * MS for index in range(chunks + 1))
    contents = tuple(f"w{index} " for index in range(chunks))
    seen = tuple(at + round(latency_ms * MS) for at in made)
    return StreamRow(
        block=block,
        arrival=arrival,
        backend=backend,
        quartet=quartet,
        counted=True,
        model=None,
        planned_chunks=chunks,
        outcome="ended",
        error=None,
        task_id=f"{block}-{arrival}",
        intended_ns=start,
        sent_ns=start + 1 * MS,
        accepted_ns=start + 5 * MS,
        opened_ns=start + 5 * MS,
        first_byte_ns=start + 6 * MS,
        terminal_ns=seen[-1],
        closed_ns=seen[-1],
        verified_ns=seen[-1] + MS,
        event_ids=tuple(str(index) for index in range(chunks + 1)),
        indexes=tuple(range(chunks + 1)),
        kinds=(*["content"] * chunks, "done"),
        attempts=(1,) * (chunks + 1),
        deltas=(1,) * (chunks + 1),
        contents=(*contents, ""),
        produced_ns=made,
        received_ns=seen,
        comments=(),
        committed=Committed(
            status="complete",
            content="".join(contents),
            backend=backend,
            completion_tokens=chunks,
            accepted_ns=start + 11 * MS,
            requested_ns=start + 20 * MS,
            first_delta_ns=made[0],
            last_delta_ns=made[chunks - 1],
        ),
    )


def picked(row: StreamRow, order: list[int], **changes: Any) -> StreamRow:
    """The same stream with its events taken in another order, some left out or twice."""
    lists = ("event_ids", "indexes", "kinds", "attempts", "deltas", "contents", "produced_ns", "received_ns")
    taken = {name: tuple(getattr(row, name)[place] for place in order) for name in lists}
    return msgspec.structs.replace(row, **{**taken, **changes})
