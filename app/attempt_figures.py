"""What an attempt counts for each chunk and while it works, under the backend that its stream is in by then."""

import contextlib
from collections.abc import Iterator
from time import time_ns
from uuid import UUID

from app.streaming.contract import Chunk
from app.telemetry import metrics, tracing


class Figures:
    """Counts for one attempt. Its labels are looked up once a backend, since a chunk is counted 20 times a second."""

    def __init__(self, task_id: UUID, backend: str) -> None:
        self._exemplars = tracing.Exemplars(task_id)
        self._is_at_work = False
        self._look_up(backend)

    def move(self, backend: str) -> None:
        """Count there from now on, the attempt itself included."""
        before = self._producing
        self._look_up(backend)
        if self._is_at_work:
            before.dec()
            self._producing.inc()

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count the attempt among those of its backend, whichever that is by then, for the length of the block."""
        self._is_at_work = True
        self._producing.inc()
        try:
            yield
        finally:
            self._producing.dec()
            self._is_at_work = False

    def appended(self) -> None:
        """Count a chunk that the store acknowledged."""
        self._appended.inc()

    def said(self, chunk: Chunk) -> None:
        """Count one that carries the model's words."""
        self._appended.inc()
        self._publish_seconds.observe((time_ns() - chunk.ts_ns) / 1e9, self._exemplars.take())
        if chunk.deltas > 1:
            self._coalesced.inc(chunk.deltas - 1)

    def _look_up(self, backend: str) -> None:
        self._producing = metrics.STREAMS_PRODUCING.labels(backend)
        self._appended = metrics.CHUNKS_APPENDED.labels(backend)
        self._publish_seconds = metrics.PUBLISH_SECONDS.labels(backend)
        self._coalesced = metrics.DELTAS_COALESCED.labels(backend)
