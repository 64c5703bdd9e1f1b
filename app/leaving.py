"""The live streams of a worker, and whether they have been told to leave their chunk store: a forced rollback."""

import contextlib
import json
import logging
from collections.abc import Iterator

from app.producer import Producer
from app.streaming.flag_document import FLAG, LEAVE
from app.telemetry import metrics

log = logging.getLogger(__name__)


class Leaving:
    """Tells every producer of this process to leave, once the flag says so, and those that come later."""

    def __init__(self) -> None:
        self._generation = 0
        self._must_leave = False
        self._producers = set[Producer]()

    def known(self) -> int:
        """Give the generation that needs no telling."""
        return self._generation

    def is_fresh(self) -> bool:
        """Say no: nothing that a worker does shows it the flag."""
        return False

    def learn(self, generation: int, document: str | None) -> None:
        """Do as the newest document says."""
        self._generation = generation
        metrics.FLAG_GENERATION.set(generation)
        try:
            flag = json.loads(document)["flags"][FLAG] if document else {}
            self._must_leave = bool(flag.get("metadata", {}).get(LEAVE))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            log.warning("flag generation %d can't be read; no stream is moved by it", generation)
            self._must_leave = False
        if self._must_leave:
            for producer in self._producers:
                producer.leave()

    @contextlib.contextmanager
    def telling(self, producer: Producer) -> Iterator[None]:
        """Tell this producer, too, for the length of the block."""
        self._producers.add(producer)
        try:
            if self._must_leave:
                producer.leave()
            yield
        finally:
            self._producers.discard(producer)
