"""What the OpenAPI document promises, held against the running API by requests that are made from it."""

from functools import partial
from typing import Any

import anyio.to_thread
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks
from schemathesis.core.result import Ok

from app.main import create_app
from app.settings import Settings
from tests.security.conftest import KEYS, METRICS_TOKEN
from tests.support.client import Client
from tests.support.serving import serving

pytestmark = pytest.mark.anyio
EXAMPLES = 12
NEVER = -1
"""A generation that the flag is never at."""
OPERATOR = "the-token-of-the-operator"
TOKENS = {"/ops": OPERATOR, "/metrics": METRICS_TOKEN}
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
DOCUMENT = create_app(Settings()).openapi()
OPERATIONS = [
    found.ok()
    for found in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if isinstance(found, Ok)  # as each one is: they are counted below
]


async def test_every_operation_keeps_to_its_document(guarded_settings: Settings) -> None:
    """With ids that exist and such as do not: no fault of ours, and no answer that the document does not know."""
    described = guarded_settings.model_copy(
        update={
            "openai_model": "scripted?ttft=0&gap=0&chunks=1",
            "operator_token": OPERATOR,
            "owner_messages_per_minute": 0,
        }
    )
    async with serving(described) as nobody:
        headers = {"Authorization": f"Bearer {KEYS['ada']}"}
        nobody.http.headers.update(headers)
        posted = await Client(nobody.http).post("ttft=0&gap=0&chunks=1")
        ids = {"conversation_id": posted.conversation_id, "task_id": posted.task_id}
        assert len(OPERATIONS) == sum(map(len, DOCUMENT["paths"].values()))
        for operation in OPERATIONS:
            await anyio.to_thread.run_sync(partial(examine, operation, str(nobody.http.base_url), ids))


def examine(operation: Any, url: str, ids: dict[str, str]) -> None:
    """Make requests of one operation's schema; in every second one an id is one that exists.

    In every third change of the flag somebody else came first.
    """
    token = next((token for begin, token in TOKENS.items() if operation.path.startswith(begin)), KEYS["ada"])
    asked = 0

    @settings(
        max_examples=EXAMPLES, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck)
    )  # a deadline of their own would judge the machine
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        if asked % 2 and case.path_parameters:
            case.path_parameters = {name: ids.get(name, value) for name, value in case.path_parameters.items()}
        if operation.path.startswith("/ops") and isinstance(case.body, dict):
            case.body["dry_run"] = True  # the flag is other tests' as well
            if asked % 3 == 0:
                case.body["expected"] = NEVER
        case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {token}"}, checks=CHECKS, timeout=30)

    ask()
    assert asked
