"""Which backend a NEW stream gets. The answer is then pinned with the stream and never asked for again.

The flag document is flagd's JSON (https://flagd.dev/reference/flag-definitions/), kept in the database with a
generation number. It is looked up once per message, so a flip is in force for the next message, with no restart.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

from app.records import Records
from app.telemetry import metrics

log = logging.getLogger(__name__)

FLAG = "stream-backend"
FORCED = "forced_backend"
"""Attribute that a caller's X-Streamgauge-Backend header sets; the document's targeting honours it."""
NO_GENERATION = 0


def document_for(default: str, backends: tuple[str, ...]) -> dict[str, Any]:
    """Write the document that sends every message to `default`, save those that force a backend."""
    targeting = {"if": [{"in": [{"var": FORCED}, list(backends)]}, {"var": FORCED}, default]}
    return {
        "flags": {
            FLAG: {
                "state": "ENABLED",
                "variants": {name: name for name in backends},
                "defaultVariant": default,
                "targeting": targeting,
            }
        }
    }


class BackendFlag:
    """The flag as this process knows it: the newest generation, or the last good one if that is broken."""

    def __init__(self, records: Records, default: str, backends: tuple[str, ...]) -> None:
        self._records, self._default, self._backends = records, default, backends
        self._core = FlagdCore()
        self._core.set_flags(document_for(default, backends))
        self.generation = NO_GENERATION

    async def choose(self, conversation_id: UUID, attributes: Mapping[str, str]) -> str:
        """Give the backend of a new message; sticky per conversation. Raises `DatabaseUnavailableError`."""
        newest = await self._records.newest_flag(self.generation)
        if newest and newest[1] is not None:
            self._adopt(newest[0], newest[1])
        context = EvaluationContext(str(conversation_id), dict(attributes))
        try:
            backend = self._core.resolve_string_value(FLAG, self._default, context).value
        except OpenFeatureError:
            log.exception("flag generation %d does not resolve; using %s", self.generation, self._default)
            return self._default
        backend = backend if backend in self._backends else self._default
        metrics.FLAG_EVALUATIONS.labels(backend).inc()
        return backend

    def _adopt(self, generation: int, document: str) -> None:
        core = FlagdCore()
        try:
            core.set_flags(document)
        except (OpenFeatureError, ValueError, TypeError):
            log.exception("flag generation %d is broken; keeping the one before. Set it anew.", generation)
        else:
            self._core = core
        self.generation = generation
        metrics.FLAG_GENERATION.set(generation)


def describe(document: str | None, default: str) -> str:
    """Say in one word where new messages go by default."""
    return str(json.loads(document)["flags"][FLAG]["defaultVariant"]) if document else default
