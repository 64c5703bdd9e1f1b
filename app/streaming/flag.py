"""Which backend a NEW stream gets. The answer is then pinned with the stream and never asked for again.

The flag document is flagd's JSON (https://flagd.dev/reference/flag-definitions/), kept in the database with a
generation number. A message's backend is chosen by the generation this process knows, and the one statement that
stores the message refuses a choice by any but the newest, so a flip is in force for the next message, with no restart.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import OpenFeatureError

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
    """The flag as this process knows it: the newest generation it was told, or the last good one if that is broken."""

    def __init__(self, default: str, backends: tuple[str, ...]) -> None:
        self._default, self._backends = default, backends
        self._warned = -1
        self.learn(NO_GENERATION, None)

    def choose(self, conversation_id: UUID, attributes: Mapping[str, str]) -> str:
        """Give the backend of a new message; sticky per conversation."""
        context = EvaluationContext(str(conversation_id), dict(attributes))
        try:
            backend = str(self._core.resolve_string_value(FLAG, self._default, context).value)
        except OpenFeatureError:
            log.exception("flag generation %d does not resolve; using %s", self.generation, self._default)
            return self._default
        if backend not in self._backends:
            self._warn_of(backend)
            backend = self._default
        metrics.FLAG_EVALUATIONS.labels(backend).inc()
        return backend

    def _warn_of(self, backend: str) -> None:
        """Say once a generation that it sends messages where this system can't."""
        if self._warned != self.generation:
            self._warned = self.generation
            log.warning("flag generation %d names %r, not offered here; using %s", self._warned, backend, self._default)

    def learn(self, generation: int, document: str | None) -> None:
        """Adopt a generation; without a document the default holds."""
        core = FlagdCore()
        try:
            core.set_flags(document or document_for(self._default, self._backends))
        except (OpenFeatureError, ValueError, TypeError):
            log.exception("flag generation %d is broken; keeping the one before. Set it anew.", generation)
        else:
            self._core = core
        self.generation = generation
        metrics.FLAG_GENERATION.set(generation)


def describe(document: str | None, default: str) -> str:
    """Say in one word where new messages go by default."""
    return str(json.loads(document)["flags"][FLAG]["defaultVariant"]) if document else default
