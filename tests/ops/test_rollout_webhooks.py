"""Webhooks are told what happens and decide nothing; gates are opened by a person, by a file, or by a webhook."""

import io
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ops.rollout.gates import Gates
from ops.rollout.guard import Webhook
from ops.rollout.sources import SourceError, found_in, metrics_of, prometheus_at
from ops.rollout.webhooks import TRIES, Webhooks
from ops.usage import UsageError
from tests.ops.rollout_parts import World

NOWHERE = "http://127.0.0.1:1"


@dataclass
class Hook:
    """An HTTP server that keeps what it gets, and answers as it is told."""

    url: str = ""
    status: int = 200
    answer: Any = field(default_factory=dict)
    got: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.do_GET()

        def do_GET(self) -> None:
            body = json.dumps(found.answer).encode()
            self.send_response(found.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def test_events_are_told_in_order_and_only_those_that_are_wanted(hook: Hook) -> None:
    """All have arrived when the block is left."""
    warned = list[str]()
    hooks = [Webhook(hook.url, events=("step", "done"))]
    with Webhooks(hooks, warned.append) as webhooks:
        webhooks.tell("step", step=10)
        webhooks.tell("judged", verdict="pass")
        webhooks.tell("done", step=10)
    assert hook.got == [{"event": "step", "step": 10}, {"event": "done", "step": 10}]
    assert warned == []


def test_a_webhook_that_fails_is_tried_a_few_times_and_stops_nothing(hook: Hook) -> None:
    """Somebody is warned, and that is all."""
    warned, hook.status = list[str](), 500
    with Webhooks([Webhook(hook.url), Webhook(NOWHERE)], warned.append, pause_s=0) as webhooks:
        webhooks.tell("rolled_back")
    assert len(hook.got) == TRIES
    assert [line.split()[0] for line in warned] == [hook.url, NOWHERE]


@pytest.mark.parametrize(
    ("answer", "opens"), [({"approve": True}, True), ({"approve": "yes"}, False), ({}, False), ([], False)]
)
def test_a_webhook_opens_a_gate_by_its_own_word_alone(hook: Hook, answer: Any, opens: bool) -> None:
    """Silence, an error or anything else is no approval; without a webhook that is a gate, none is asked."""
    hook.answer = answer
    with Webhooks([Webhook(hook.url, gate=True)], print, pause_s=0) as webhooks:
        assert webhooks.gates_open(step=50) is opens
        hook.status = 503
        assert webhooks.gates_open(step=50) is False
    with Webhooks([Webhook(hook.url)], print) as webhooks:
        assert webhooks.gates_open(step=50) is False


def test_a_gate_is_opened_from_another_terminal(tmp_path: Path) -> None:
    """For this step and those before it, not for the next; an approval of the rollout before does not count."""
    world = World(tmp_path / "rollout")
    with Webhooks([], print) as webhooks:
        gates, state = Gates(world.journal, webhooks, world.said.append, io.StringIO()), world.state()
        assert not gates.is_open(state, 50)
        assert "streamgauge rollout --approve" in world.said[-1]
        world.journal.approve(50)
        assert gates.is_open(state, 10)
        assert gates.is_open(state, 50)
        assert not gates.is_open(state, 100)
        world.journal.begin(state)
        assert not gates.is_open(state, 50)


def test_a_gate_is_opened_at_the_terminal_by_y_alone(tmp_path: Path) -> None:
    """A real terminal, in which somebody types."""
    world = World(tmp_path / "rollout")
    keyboard, terminal = os.openpty()
    with Webhooks([], print) as webhooks, os.fdopen(terminal) as lines:
        gates, state = Gates(world.journal, webhooks, world.said.append, lines), world.state()
        assert not gates.is_open(state, 50)
        assert "type y and Enter" in world.said[-1]
        os.write(keyboard, b"no\n")
        assert not gates.is_open(state, 50)
        os.write(keyboard, b"y\n")
        assert gates.is_open(state, 50)
    os.close(keyboard)


def test_a_source_that_can_not_be_read_says_who_did_not_answer(hook: Hook, tmp_path: Path) -> None:
    """And a Prometheus without our series is not taken for a quiet system."""
    with pytest.raises(SourceError, match=NOWHERE):
        metrics_of([NOWHERE])()
    with pytest.raises(SourceError, match=NOWHERE):
        prometheus_at(NOWHERE)()
    hook.answer = {"data": {"result": []}}
    with pytest.raises(SourceError, match="does it scrape"):
        prometheus_at(hook.url)()
    with pytest.raises(UsageError, match="--metrics URL"):
        found_in(tmp_path)
