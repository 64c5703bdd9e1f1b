"""The API key of the system that is measured, if it asks for one."""

import os

VARIABLE = "STREAMGAUGE_API_KEY"


def key_headers() -> dict[str, str]:
    """Give what a request to a system of ours carries: the key that STREAMGAUGE_API_KEY holds, or nothing."""
    key = os.environ.get(VARIABLE)
    return {"Authorization": f"Bearer {key}"} if key else {}
