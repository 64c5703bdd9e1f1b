"""The flag's own OpenFeature provider: flagd's evaluator over the document of the moment."""

from collections.abc import Mapping, Sequence

from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails, FlagValueType
from openfeature.hook import Hook
from openfeature.provider import AbstractProvider, Metadata

Context = EvaluationContext | None


class DocumentProvider(AbstractProvider):
    """Resolves by `core`, which is exchanged whole when another document is in force."""

    def __init__(self) -> None:
        super().__init__()
        self.core = FlagdCore()

    def get_metadata(self) -> Metadata:
        """Name this provider."""
        return Metadata("streamgauge")

    def get_provider_hooks(self) -> list[Hook]:
        """Have none."""
        return []

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: Context = None
    ) -> FlagResolutionDetails[str]:
        """Resolve as flagd would."""
        return self.core.resolve_string_value(flag_key, default_value, evaluation_context)

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: Context = None
    ) -> FlagResolutionDetails[bool]:
        """Resolve as flagd would."""
        return self.core.resolve_boolean_value(flag_key, default_value, evaluation_context)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: Context = None
    ) -> FlagResolutionDetails[int]:
        """Resolve as flagd would."""
        return self.core.resolve_integer_value(flag_key, default_value, evaluation_context)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: Context = None
    ) -> FlagResolutionDetails[float]:
        """Resolve as flagd would."""
        return self.core.resolve_float_value(flag_key, default_value, evaluation_context)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[FlagValueType] | Mapping[str, FlagValueType],
        evaluation_context: Context = None,
    ) -> FlagResolutionDetails[Sequence[FlagValueType] | Mapping[str, FlagValueType]]:
        """Resolve as flagd would."""
        return self.core.resolve_object_value(flag_key, default_value, evaluation_context)
