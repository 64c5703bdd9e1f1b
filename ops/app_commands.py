"""How each process of ours is started; docker-compose.yml names the same modules."""

import http.client
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ops.ports import LOOPBACK, free_port, is_free
from ops.processes import Command, Process, StackError

ROOT = Path(__file__).parent.parent
MIGRATION = ("alembic", "-c", "ops/alembic.ini", "upgrade", "head")
PREFERRED_PORT = 8000
VIEW_SECONDS = 3.0
"""How long a stopping API lets views run, unless STREAMGAUGE_API_DRAIN_S says otherwise."""
VIEW_DRAIN = "STREAMGAUGE_API_DRAIN_S"
DRAIN_SECONDS = 5.0
"""How long a stopping worker may finish its answers, unless STREAMGAUGE_WORKER_DRAIN_S says otherwise."""
DRAIN = "STREAMGAUGE_WORKER_DRAIN_S"
GUARDS = ("STREAMGAUGE_API_KEYS", "STREAMGAUGE_METRICS_TOKEN")


def unguarded(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what would have an API ask for keys."""
    return {name: value for name, value in environment.items() if name not in GUARDS}


def migrate(environment: Mapping[str, str]) -> Command:
    """Bring the schema of DATABASE_URL to the newest revision, then end."""
    return _python("migrate", "migrate", environment, *MIGRATION)


def model_server(port: int, environment: Mapping[str, str], host: str = LOOPBACK) -> Command:
    """Serve the scripted model."""
    return _python("model", "model", environment, "ops.model_server", "--host", host, "--port", str(port))


def api_port(wanted: int | None) -> int:
    """Choose the first API's port: the wanted one, 8000 if there is no wish, or any. Raises `StackError`."""
    if wanted is None:
        return PREFERRED_PORT if is_free(PREFERRED_PORT) else free_port()
    if wanted and not is_free(wanted):
        raise StackError(f"Port {wanted} is taken: end what listens there, or take any free one with --port 0.")
    return wanted or free_port()


def api(number: int, port: int, environment: Mapping[str, str], host: str = LOOPBACK) -> Command:
    """Serve the HTTP API."""
    drain = environment.get(VIEW_DRAIN, f"{VIEW_SECONDS:g}")
    return _python(
        f"api-{number}", "api", {**environment, VIEW_DRAIN: drain},
        "app.serve", "--host", host, "--port", str(port),
        stop_seconds=float(drain) + 10,
    )  # fmt: skip


def worker(number: int, metrics_port: int, environment: Mapping[str, str]) -> Command:
    """Generate answers. Workers do not gossip: that is traffic in the store which a measurement would count."""
    drain = environment.get(DRAIN, f"{DRAIN_SECONDS:g}")
    environment = {**environment, "STREAMGAUGE_WORKER_METRICS_PORT": str(metrics_port), DRAIN: drain}
    return _python(
        f"worker-{number}", "worker", environment,
        "celery", "-A", "app.worker", "worker", "--hostname", f"worker-{number}-{metrics_port}@%h",
        "--without-gossip", "--without-mingle",
        stop_seconds=float(drain) + 10,
    )  # fmt: skip


def consumes(process: Process) -> bool:
    """Tell whether a worker takes tasks: Celery's own words, once its consumer has begun."""
    return process.said(rf"{process.name}-\d+@\S+ ready\.")


def answers(url: str) -> bool:
    """Tell whether a GET of this http URL is answered with 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or LOOPBACK, parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _python(name: str, kind: str, environment: Mapping[str, str], *module: str, stop_seconds: float = 10.0) -> Command:
    # From our own root, so that a folder named `app` where a person happens to stand is not taken for ours.
    return Command(name, kind, (sys.executable, "-m", *module), environment, ROOT, stop_seconds=stop_seconds)
