"""Every Valkey key and channel. A stream's names share one hash tag, hence one slot of a cluster."""

from uuid import UUID


def chunks_key(task_id: UUID) -> str:
    """List of the stream's records; lives for the chunk TTL after the producer last showed life."""
    return f"stream:{{{task_id}}}:chunks"


def meta_key(task_id: UUID) -> str:
    """Hash of the stream's state; lives as long as the list.

    Its fields: state, attempt, reset, lease, cancel, `pen` (the attempt that may append, while nobody asked it to stop)
    and `begun` (the list exists, hence an empty one is lost).
    """
    return f"stream:{{{task_id}}}:meta"


def channel(task_id: UUID) -> str:
    """Channel that carries each record as it is appended."""
    return f"stream:{{{task_id}}}"


def control_channel(task_id: UUID) -> str:
    """Channel on which the producer hears that it should stop."""
    return f"stream:{{{task_id}}}:control"
