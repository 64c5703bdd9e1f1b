"""Orders to a running stack: only with the token, only what can be done here, and done when answered."""

import contextlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.ops.supervised import is_alive, recorded
from tests.support.up import ALONE, streamgauge_up
from tests.support.waiting import until

TOKEN = "an-operator"
NOBODY = "http://127.0.0.1:9/v1"


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    """Give the status, the answer and its headers."""
    parts = urlsplit(url)
    with contextlib.closing(HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.request(method, parts.path or "/", headers=headers)
        response = connection.getresponse()
        told = response.read()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(told) if is_json else told, response.headers


def test_orders_are_carried_out_for_whoever_has_the_token(tmp_path: Path, database_url: str) -> None:
    """A worker pauses and goes on, Valkey is another process; a stranger gets nothing, and no order delays the end.

    Ctrl-C ends everything.
    """
    own = {"DATABASE_URL": database_url, "OPENAI_BASE_URL": NOBODY}  # neither is of the orders
    with streamgauge_up(tmp_path, environment=ALONE | own | {"STREAMGAUGE_OPERATOR_TOKEN": TOKEN}) as up:
        assert up.line("Look:") == f"{up.api_url}/#token={TOKEN}"
        url = ask(f"{up.api_url}/web/system.json")[1]["control_url"]
        bearer = f"Bearer {TOKEN}"
        policy = ask(up.api_url)[2]["Content-Security-Policy"]
        assert f"connect-src 'self' {url.rstrip('/')};" in policy

        _, told, headers = ask(url, Authorization=bearer, Origin=up.api_url)
        assert told == ["worker/pause", "valkey/restart"]
        assert headers["Access-Control-Allow-Origin"] == up.api_url
        for origin in ("https://example.org", "http://127.0.0.1:1", "http://127.0.0.1:x", "null", ""):
            assert "Access-Control-Allow-Origin" not in ask(url, Authorization=bearer, Origin=origin)[2]
        for refused in ("", "Bearer guessed"):
            assert ask(f"{url}valkey/restart", "POST", Authorization=refused)[0] == 401
        assert ask(f"{url}postgres/drop", "POST", Authorization=bearer)[0] == 404

        worker = psutil.Process(up.pid("worker-1"))
        with ThreadPoolExecutor(1) as elsewhere:
            paused = elsewhere.submit(ask, f"{url}worker/pause", "POST", Authorization=bearer)
            until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker pauses")
            assert paused.result()[:2] == (200, {"done": "worker/pause"})
        until(lambda: worker.status() != psutil.STATUS_STOPPED, "the worker goes on")

        before = up.pid("valkey")
        assert ask(f"{url}valkey/restart", "POST", Authorization=bearer)[:2] == (200, {"done": "valkey/restart"})
        assert up.pid("valkey") != before

        with ThreadPoolExecutor(1) as elsewhere:
            left = elsewhere.submit(ask, f"{url}worker/pause", "POST", Authorization=bearer)
            until(lambda: worker.status() == psutil.STATUS_STOPPED, "the worker pauses again")
            parts = recorded(up.folder)
            assert up.end(signal.SIGINT) == 0
            assert left.result()[0] == 503
    assert not any(is_alive(entry) for entry in parts.values())
