"""An OpenAI-compatible model without streamgauge: `locust -f loadtest/scenarios/model.py --host http://HOST/v1`."""

from loadtest.scenarios.users import Asker


class Model(Asker):
    """`streamgauge bench --protocol openai` as a Locust user."""
