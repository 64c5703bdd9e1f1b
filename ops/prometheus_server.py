"""A Prometheus of the stack's own, if one is installed: it scrapes every process and keeps our rules."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ops.ports import LOOPBACK, free_port
from ops.processes import Command, Process, StackError
from ops.supervisor import Supervisor

RULES = Path(__file__).parent / "prometheus" / "rules.yml"
READY_SECONDS = 30.0
SCRAPE_EVERY = "1s"
OTHERS_EVERY = "5s"
"""For what is no process of ours: an exporter asks its server each time."""
OURS = ("streamgauge-", "loadtest", "rollout")
APIS = "streamgauge-api"


def find_prometheus() -> str:
    """Give the program, or raise `StackError` that says how to get it."""
    found = shutil.which("prometheus")
    if not found:
        raise StackError(
            "Prometheus is not installed: on Debian `apt-get install prometheus`, elsewhere put `prometheus` of "
            "https://prometheus.io/download on the PATH; or leave --observe out."
        )
    return found


def prometheus(
    supervisor: Supervisor, jobs: Mapping[str, Sequence[str]], environment: Mapping[str, str]
) -> tuple[Process, str]:
    """Start one that scrapes these jobs' metrics URLs; gives its process and its page.

    The APIs get the token of the environment, if there is one.
    """
    folder, port = supervisor.folder / "prometheus", free_port()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    token = environment.get("STREAMGAUGE_METRICS_TOKEN")
    config = {
        "global": {"scrape_interval": SCRAPE_EVERY, "evaluation_interval": "5s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {
                "job_name": job,
                "scrape_interval": SCRAPE_EVERY if job.startswith(OURS) else OTHERS_EVERY,
                "static_configs": [{"targets": [urlsplit(url).netloc for url in urls]}],
                **({"authorization": {"credentials": token}} if token and job == APIS else {}),
            }
            for job, urls in jobs.items()
        ],
    }
    path = folder / "prometheus.json"  # JSON is YAML
    path.touch(0o600)
    path.write_text(json.dumps(config, indent=1))
    argv = (
        find_prometheus(), f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}", "--enable-feature=exemplar-storage",
    )  # fmt: skip
    process = supervisor.start(Command("prometheus", "prometheus", argv, environment, folder))
    return process, f"http://{LOOPBACK}:{port}"
