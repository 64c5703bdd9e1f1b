"""What a person reads of a run with flips: whether continuity held, each flip, and where it lies on the plots."""

import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from rich.console import Console

from loadtest import again, bench_page, document, flips_report, plan, recorder, report, result
from loadtest.clock import Offset
from loadtest.flips import Done
from loadtest.host import sample
from loadtest.plan import Plan
from loadtest.recorder import StreamRow
from loadtest.run import ContinuityError, check_continuity
from tests.support.flipped import DONE, TIMES, at, ended_on, posted
from tests.support.targets import ROOT

PLAYED = Plan(1, 10.0, (), flips=TIMES)
ROWS = [
    posted(1, "pubsub"), posted(9.5, "pubsub"), posted(12, "polling"), posted(24, "polling"), posted(26, "streams"),
    posted(41, "notify"), ended_on(posted(19.9, "pubsub", sent_ns=at(9.9), opened_ns=at(9.9)), "polling"),
]  # fmt: skip
LATE = posted(15, "pubsub")


def made_of(rows: list[StreamRow], done: Done | None = DONE) -> dict[str, Any]:
    """The document of a run with these rows."""
    here = Offset(same_host=True, offset_ns=0, bound_ns=0)
    raw = result.Raw(
        plan=PLAYED,
        backends=("polling", "pubsub", "notify", "streams"),
        streams=rows,
        generator=[],
        host=[sample()],
        counters=[],
        offset=here,
        offset_after=here,
        started=[],
        interrupted=False,
        flips=done,
    )
    settings = {"target": "http://127.0.0.1:8000", "chunk_rate": 20.0, "seed": 1, "scenario": "rollback"}
    return result.make(raw, settings, {"cores": 2}, "2026-01-01T00:00:00+00:00")


def shown(made: dict[str, Any]) -> str:
    output = io.StringIO()
    report.show(made, Console(file=output, width=120))
    return output.getvalue()


def test_the_document_follows_its_schema() -> None:
    """Flips and continuity are part of it, and a program reads them."""
    made = made_of(ROWS)
    jsonschema.validate(made, json.loads((ROOT / "docs/result.schema.json").read_text()))
    read = msgspec.convert(made, document.Result)
    assert [flip.backend for flip in read.flips] == ["polling", "streams", "notify"]
    assert read.continuity is not None
    assert read.continuity.broken == {}


def test_what_the_flag_chose_is_counted_with_the_backend_it_chose() -> None:
    """Each backend has the figures of the streams that were pinned to it."""
    counts = {name: one["streams"] for name, one in made_of(ROWS)["backends"].items()}
    assert counts == {"polling": 2, "pubsub": 3, "notify": 1, "streams": 1}


def test_continuity_is_said_first_and_the_loss_is_explained() -> None:
    """On the terminal and in report.md, with how many were handed over and rerouted."""
    made = made_of(ROWS)
    for text in (shown(made), report.markdown(made)):
        assert "Continuity held: the flips cost no stream anything." in text
        assert "No message posted after a flip got the backend before it." in text
        assert "that meant 1 hand-over (the workers counted 1), 1 new message to the safe backend" in text
    assert "| 2 | 19.0 s | polling → streams, store killed |" in report.markdown(made)


def test_a_broken_continuity_names_the_stream_and_fails_the_command(tmp_path: Path) -> None:
    """Count, kind and stream; the error says where to read on."""
    made = made_of([*ROWS, LATE])
    for text in (shown(made), report.markdown(made)):
        assert "Continuity is broken: 1 late." in text
        assert f"late: stream {LATE.task_id}, viewer 0, went to pubsub when the flag said polling" in text
    with pytest.raises(ContinuityError, match=r"1 late\. What and where is in .*report\.md"):
        check_continuity(made, tmp_path)
    check_continuity(made_of(ROWS), tmp_path)


def test_the_page_says_how_to_flip_again() -> None:
    """With the same pace, and without the loss of the store if there was none."""
    made = made_of(ROWS)
    made["settings"] |= {"duration": "21s", "flipping": {"every_s": 2.0, "loses_store": False}}
    command = again.command(made)
    assert "--scenario rollback --duration 21s" in command
    assert command.endswith("--flip-every 2 --no-kill")
    made["settings"] |= {"flipping": {"every_s": None, "loses_store": True}}
    assert again.command(made).endswith("--seed 1")


def test_other_runs_say_nothing_of_flips(tmp_path: Path) -> None:
    """Neither the document of one without any, nor one that was written before there were any."""
    made = made_of(ROWS, done=None)
    older = {key: value for key, value in made.items() if key not in {"flips", "continuity"}} | {"schema": 2}
    for one in (made, older):
        assert "Flips" not in report.markdown(one)
        assert flips_report.sections(one) == []
        assert flips_report.sentences(one) == []
    (tmp_path / "result.json").write_text(json.dumps(older))
    assert document.read(tmp_path).flips == []


def test_every_plot_over_time_marks_each_flip(tmp_path: Path) -> None:
    """By number and, for a screen reader, in words; the loss of the store has a sign."""
    plan.save(PLAYED, tmp_path / "plan.json")
    with (tmp_path / "streams.jsonl").open("wb") as file:
        recorder.append(file, ROWS)
    html = bench_page.write_report(made_of(ROWS), tmp_path).read_text()
    figures = {
        title: figure
        for figure in re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
        for title in re.findall(r"<h3>(.*?)</h3>", figure)[:1]
    }
    over_time = [
        "Streams open at once",
        "Chunks received per second",
        *(f"Delivery latency over time, p{p}" for p in (50, 99)),
    ]
    for title in over_time:
        found = re.findall(r"<title>flip (\d): (\w+) → (\w+)</title>", figures[title])
        assert found == [("1", "pubsub", "polling"), ("2", "polling", "streams"), ("3", "streams", "notify")], title
        assert re.search(r">2 ✕</text>", figures[title])
    assert "Continuity held" in html
    assert "polling → streams, store killed" in html
    assert "Ratio to polling" not in html, "backends that share the time are not set against each other"
