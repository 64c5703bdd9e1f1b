"""Another OpenFeature provider in the place of our document: it is asked for each message, and knows no generations."""

import logging
from typing import Any
from uuid import uuid4

import pytest
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import GeneralError
from openfeature.flag_evaluation import FlagResolutionDetails, Reason

from app.streaming.backends import NAMES, SAFE
from app.streaming.flag import BackendFlag, ProviderError, load_provider
from app.streaming.flag_document import FORCED
from app.streaming.flag_provider import DocumentProvider
from ops.stack import Stack
from tests.app.test_away import settings_of
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
HERE = f"{__name__}:Theirs"


class Theirs(DocumentProvider):
    """Somebody's: `notify` for everybody but who forces something; it breaks down for `streams`."""

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        asked: Any = evaluation_context
        forced = asked.attributes.get(FORCED)
        if forced == "streams":
            raise GeneralError("out of order")
        return FlagResolutionDetails(forced or "notify", reason=Reason.TARGETING_MATCH)


async def test_it_chooses_and_a_document_of_ours_does_not_count(system: Stack) -> None:
    """Messages are stored whatever the generation in the database is."""
    async with serving(settings_of(system, flag_provider=HERE)) as client:
        assert (await client.answer(await client.post()))["backend"] == "notify"
        assert (await client.answer(await client.post(backend="polling")))["backend"] == "polling"


def test_one_that_breaks_down_leaves_the_default(caplog: pytest.LogCaptureFixture) -> None:
    """And says so."""
    caplog.set_level(logging.WARNING)
    flag = BackendFlag("pubsub", SAFE, NAMES, load_provider(HERE))
    assert flag.generation is None
    assert flag.choose(uuid4(), {FORCED: "streams"}) == "pubsub"
    assert "out of order" in caplog.text
    flag.learn(7, None)
    assert (flag.generation, flag.choose(uuid4(), {})) == (None, "notify")


@pytest.mark.parametrize("name", ["no.such.module:Thing", "app.settings:Nothing", "app.streaming.flag:BackendFlag"])
def test_one_that_can_not_be_had_says_how_to_name_one(name: str) -> None:
    """With the variable and its fix."""
    with pytest.raises(ProviderError, match=r"STREAMGAUGE_FLAG_PROVIDER=.*Install its package"):
        load_provider(name)
