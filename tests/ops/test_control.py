"""Orders to a running stack: only with the token, only what can be done here, and done when answered."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from tests.support.up import ALONE, Up, streamgauge_up
from tests.support.waiting import until

TOKEN = "an-operator"


def control_url(up: Up) -> str:
    with urlopen(f"{up.api_url}/web/system.json", timeout=10) as answer:
        return str(json.load(answer)["control_url"])


def ask(url: str, method: str = "GET", **headers: str) -> tuple[Any, Any]:
    """Give the answer and its headers."""
    with urlopen(Request(url, method=method, headers=headers), timeout=30) as answer:
        return json.loads(answer.read() or "null"), answer.headers


def pid(up: Up, part: str) -> int:
    """The process of a part, by the ledger of the running stack."""
    entries = json.loads((up.folder / "processes.json").read_text())
    return next(int(entry["pid"]) for entry in entries if entry["name"] == part)


def test_orders_are_carried_out_for_whoever_has_the_token(tmp_path: Path) -> None:
    """A worker pauses and goes on, Valkey is another process, and a stranger can neither order nor read."""
    with streamgauge_up(tmp_path, environment=ALONE | {"STREAMGAUGE_OPERATOR_TOKEN": TOKEN}) as up:
        assert up.line("Look:") == f"{up.api_url}/#token={TOKEN}"
        url, bearer = control_url(up), f"Bearer {TOKEN}"
        told, headers = ask(url, Authorization=bearer, Origin=up.api_url)
        assert told == ["worker/pause", "valkey/restart"]
        assert headers["Access-Control-Allow-Origin"] == up.api_url
        for origin in ("https://example.org", "http://127.0.0.1:1", "null", ""):
            _, headers = ask(url, Authorization=bearer, Origin=origin)
            assert "Access-Control-Allow-Origin" not in headers
        for refused, status in (("", 401), ("Bearer guessed", 401)):
            with pytest.raises(HTTPError, match=str(status)):
                ask(f"{url}valkey/restart", "POST", Authorization=refused)
        with pytest.raises(HTTPError, match="404"):
            ask(f"{url}postgres/drop", "POST", Authorization=bearer)

        worker = psutil.Process(pid(up, "worker-1"))
        with ThreadPoolExecutor(1) as elsewhere:
            paused = elsewhere.submit(ask, f"{url}worker/pause", "POST", Authorization=bearer)
            until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker pauses")
            assert paused.result()[0] == {"done": "worker/pause"}
        until(lambda: worker.status() != psutil.STATUS_STOPPED, "the worker goes on")

        before = pid(up, "valkey")
        assert ask(f"{url}valkey/restart", "POST", Authorization=bearer)[0] == {"done": "valkey/restart"}
        assert pid(up, "valkey") != before
        policy = urlopen(up.api_url, timeout=10).headers["Content-Security-Policy"]
        assert re.search(rf"connect-src 'self' {re.escape(url.rstrip('/'))};", policy)
