"""`streamgauge up --observe`: a Prometheus beside the system, with our rules, and the way to get one."""

import json
import os
import signal
from pathlib import Path
from urllib.request import urlopen

import httpx2

from app.api.access import digest_of
from ops.exporters import HOW_TO_GET, exporters
from tests.ops.supervised import is_alive, recorded
from tests.support.command import streamgauge_here
from tests.support.prometheus import needs
from tests.support.up import ALONE, streamgauge_up
from tests.support.waiting import until


def test_it_prints_a_query_page_that_knows_our_rules(tmp_path: Path, database_url: str) -> None:
    """The page answers, scrapes the system, also where that asks for keys and a token, and has every group of rules.

    What it prints to be pasted asks for the key where one is needed. SIGTERM ends it well, and all of the system.
    """
    needs("prometheus")
    guards = {"STREAMGAUGE_API_KEYS": f"ada:{digest_of('a key')}", "STREAMGAUGE_METRICS_TOKEN": "a-token"}
    own = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}  # nobody is asked for an answer
    with streamgauge_up(tmp_path, "--observe", environment=ALONE | guards | own) as up:
        asked = {key: httpx2.post(f"{up.api_url}/session", headers={"Authorization": f"Bearer {key}"}).status_code
                 for key in ("a key", "another")}  # fmt: skip
        assert "STREAMGAUGE_API_KEY=${STREAMGAUGE_API_KEY:?one of your keys} STREAMGAUGE_METRICS" in up.line("Check:")
        assert up.printed.count(' -H "$KEY"') == 3
        page, alerts = up.line("Query:").split()
        with urlopen(page, timeout=10) as answer:
            assert answer.status == 200
        url = page.removesuffix("/graph")
        assert alerts == f"{url}/alerts"
        with urlopen(f"{url}/api/v1/rules", timeout=10) as answer:
            groups = [group["name"] for group in json.load(answer)["data"]["groups"]]

        def targets() -> dict[str, str]:
            with urlopen(f"{url}/api/v1/targets", timeout=10) as answer:
                return {
                    target["labels"]["job"]: target["health"] for target in json.load(answer)["data"]["activeTargets"]
                }

        until(lambda: targets().get("streamgauge-api") == "up", "the API's metrics are scraped", 30)
        jobs = set(targets())
        parts = recorded(up.folder)
        assert up.end(signal.SIGTERM) == 0
    assert not any(is_alive(entry) for entry in parts.values())
    assert asked == {"a key": 204, "another": 401}
    assert sorted(groups) == ["streamgauge-causes", "streamgauge-ratios", "streamgauge-symptoms"]
    assert {"streamgauge-api", "streamgauge-worker", "loadtest"} <= jobs


def test_without_prometheus_it_says_how_to_get_it(tmp_path: Path) -> None:
    """Before anything has started."""
    refused = streamgauge_here("up", "--observe", "--port", "0", folder=tmp_path, PATH=str(tmp_path))
    assert refused.returncode == 1
    assert "apt-get install prometheus" in refused.stderr
    assert "✓" not in refused.stdout


def test_a_servers_password_is_no_argument_of_its_exporter(tmp_path: Path) -> None:
    """Any account of the machine can read arguments; so it goes by the environment."""
    needs("prometheus-redis-exporter", "prometheus-postgres-exporter")
    made = exporters("redis://:secret@h:1/0", "postgresql://u:secret@h:2/d?x=1", os.environ, tmp_path)
    assert [one.job for one in made] == ["redis", "postgres"]
    for one in made:
        assert not any("secret" in word for word in one.command.argv)
    assert made[1].command.env["DATA_SOURCE_NAME"].endswith("?x=1&sslmode=disable")
    assert all(f"prometheus-{one.job}-exporter" in HOW_TO_GET for one in made)
