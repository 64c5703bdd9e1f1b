"""A broker that answers and will not serve is away: to the pool it is as one that does not answer."""

from typing import Any

import redis
from redis.exceptions import MasterDownError, OutOfMemoryError, ReadOnlyError, ResponseError

KINDS = (ReadOnlyError, OutOfMemoryError, MasterDownError)
WORDS = frozenset({"BUSY", "MISCONF", "NOREPLICAS", "UNBLOCKED"})
"""First words of other refusals: a script that runs on, no room on the disk, lost replicas, a demotion in a BRPOP."""


def lost_when_refused(connection_class: Any) -> Any:
    """Give the class with refusals as lost connections: a `ResponseError` would end Celery's consumer."""
    return type("Connection", (_LostWhenRefused, connection_class), {})


class _LostWhenRefused:
    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]  # of the class that this is mixed into
        except ResponseError as error:
            if not _is_refusal(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]
            raise redis.ConnectionError(f"The broker refuses: {error}") from error


def _is_refusal(error: ResponseError) -> bool:
    return isinstance(error, KINDS) or str(error).partition(" ")[0] in WORDS
