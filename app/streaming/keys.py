"""Every Valkey key and channel. A stream's names share one hash tag, hence one slot of a cluster."""

from uuid import UUID

STOPS_KEY = "streams:stops"
"""Redis stream of the ids of streams that should stop; every process reads it."""
SHARED_TTL_S = 60
"""Lifetime of what is for the processes and not of one stream: who reads it is only ever milliseconds behind."""


def chunks_key(task_id: UUID) -> str:
    """List of the stream's records; lives for the chunk TTL after the producer last showed life."""
    return f"stream:{{{task_id}}}:chunks"


def log_key(task_id: UUID) -> str:
    """Redis stream of the stream's records, each with its index + 1 as its id; lives as a list would."""
    return f"stream:{{{task_id}}}:log"


def meta_key(task_id: UUID) -> str:
    """Hash of the stream's state; lives as long as the list or the log.

    Its fields: state, attempt, reset, lease, cancel, `pen` (the attempt that may append, while nobody asked it to stop)
    and `begun` (the list or the log exists, hence an empty one is lost).
    """
    return f"stream:{{{task_id}}}:meta"


def channel(task_id: UUID) -> str:
    """Channel that carries each record as it is appended."""
    return f"stream:{{{task_id}}}"


def control_channel(task_id: UUID) -> str:
    """Channel on which the producer hears that it should stop."""
    return f"stream:{{{task_id}}}:control"


def wake_key(process: UUID) -> str:
    """Redis stream that ends the read which a process waits for, so that it can begin one of more logs."""
    return f"streams:wake:{process}"
