"""What a process loads before it serves: each pays for that at every start."""

import subprocess
import sys

import pytest

LOADED = "import sys, {module}; print(*sys.modules)"
OPTIONAL = {"opentelemetry.exporter", "google.protobuf"}
"""Only for who names a collector."""


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("app.serve", OPTIONAL | {"alembic", "celery.worker", "httpx2", "locust", "openai"}),
        ("app.worker", OPTIONAL | {"alembic", "fastapi", "locust", "starlette", "uvicorn"}),
    ],
)
def test_a_process_loads_nothing_that_only_others_or_options_need(module: str, unneeded: set[str]) -> None:
    """An API knows no model client and a worker no web framework; neither has an exporter before one is asked for."""
    loads = [sys.executable, "-c", LOADED.format(module=module)]
    loaded = subprocess.run(loads, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not unneeded.intersection(loaded)
