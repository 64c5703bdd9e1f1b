"""Which backend a NEW stream gets. The answer is then pinned with the stream and never asked for again.

The flag is asked through OpenFeature (https://openfeature.dev). Unless a person plugs in a provider of theirs, the
answer is that of the newest document in the database, which has a generation number: a message's backend is chosen by
the generation this process knows, and the one statement that stores the message refuses a choice by any but the
newest. So a flip is in force for the next message, with no restart.
"""

import importlib
import itertools
import logging
from collections.abc import Mapping
from uuid import UUID

from openfeature import api
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagEvaluationDetails
from openfeature.provider import FeatureProvider

from app.streaming.flag_document import FLAG, document_for
from app.streaming.flag_provider import DocumentProvider
from app.telemetry import metrics

log = logging.getLogger(__name__)

NO_GENERATION = 0
_domains = itertools.count()


class ProviderError(Exception):
    """A provider that a person named can't be had; the message says what to do."""


class BackendFlag:
    """The flag as this process knows it: the newest generation it was told, or the last good one if that is broken."""

    def __init__(
        self, default: str, safe: str, backends: tuple[str, ...], provider: FeatureProvider | None = None
    ) -> None:
        self._default, self._safe, self.backends = default, safe, backends
        self._documents = DocumentProvider()
        self._warned, self._is_fresh = -1, False
        domain = f"streamgauge-{next(_domains)}"
        api.set_provider_and_wait(provider or self._documents, domain)
        self._client = api.get_client(domain)
        self.generation = NO_GENERATION if provider is None else None
        """Of the document by which messages are chosen; None with a provider that knows no generations."""
        self.learn(NO_GENERATION, None)

    def known(self) -> int:
        """Give the generation that needs no telling."""
        return self.generation or NO_GENERATION

    def confirm(self) -> None:
        """Note that a message was stored by this generation: it was the newest."""
        self._is_fresh = True

    def is_fresh(self) -> bool:
        """Tell whether one was stored since the last call."""
        was_fresh, self._is_fresh = self._is_fresh, False
        return was_fresh

    def choose(self, conversation_id: UUID, attributes: Mapping[str, str]) -> str:
        """Give the backend of a new message; sticky per conversation."""
        context = EvaluationContext(str(conversation_id), dict(attributes))
        # The client raises nothing; the value that it gives instead is the safe one, for a flag that is switched off.
        found: FlagEvaluationDetails[str] = self._client.get_string_details(FLAG, self._safe, context)
        backend = found.value
        if found.error_code is not None:
            self._warn("does not resolve: %s", found.error_message or found.error_code)
            backend = self._default
        elif backend not in self.backends:
            self._warn("names %r, not offered here", backend)
            backend = self._default
        metrics.FLAG_EVALUATIONS.labels(backend).inc()
        return backend

    def learn(self, generation: int, document: str | None) -> None:
        """Adopt a generation; without a document the default holds. A broken one changes nothing, and is logged."""
        if self.generation is None:
            return
        core = FlagdCore()
        try:
            core.set_flags(document or document_for(self._default, self.backends))
            core.resolve_string_value(FLAG, self._safe, EvaluationContext(str(UUID(int=0))))
        except Exception:  # the evaluator raises what its operators do: a division by zero, too deep a nesting
            log.exception("flag generation %d is broken; keeping the one before. Set it anew.", generation)
            metrics.FLAG_BROKEN.set(1)
        else:
            self._documents.core = core
            metrics.FLAG_BROKEN.set(0)
        self.generation = generation
        metrics.FLAG_GENERATION.set(generation)

    def _warn(self, what: str, *about: object) -> None:
        """Say once a generation that it sends messages where this system can't."""
        if self._warned != self.generation or self.generation is None:
            self._warned = self.generation if self.generation is not None else -1
            log.warning(f"flag generation %s {what}; using %s", self.generation, *about, self._default)


def load_provider(name: str) -> FeatureProvider | None:
    """Make the provider that a person named as `module:Class`, or none. Raises `ProviderError`."""
    if not name:
        return None
    module, _, attribute = name.partition(":")
    try:
        provider: FeatureProvider = getattr(importlib.import_module(module), attribute)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ProviderError(
            f"STREAMGAUGE_FLAG_PROVIDER={name} can't be had: {error}. Install its package, and name a class that is "
            "made without arguments, as in openfeature.contrib.provider.flagd:FlagdProvider."
        ) from error
    return provider
