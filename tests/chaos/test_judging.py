"""The judge of chaos finds what is planted, and nothing else."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from ops.chaos.crowd import Told
from ops.chaos.matrix import HEADINGS, Cell, complaint, markdown
from ops.chaos.scenarios import ALL, DONE, Scenario
from ops.chaos.viewer import Record, Sight
from tests.support.command import streamgauge_here

SCENARIO = Scenario("planted", "A fault is planted.", endings=DONE)
WHOLE = Cell("planted", "pubsub", 2, 3, 3, 1, 0, 0, 0.5, ())


def said(index: int, text: str = "word ") -> Record:
    return Record(index, "content", text)


def reset(index: int) -> Record:
    return Record(index, "reset", "")


def ended(index: int, kind: str = "done", code: str | None = None) -> Record:
    return Record(index, kind, "", code)


def told(records: Iterable[Record], committed: str = "word word ", **message: str) -> Told:
    """What a viewer tells who was sent these records."""
    sight = Sight()
    for record in records:
        sight.take(record)
    return Told("pubsub", "some-task", sight, message={"content": committed, "status": "complete", **message})


@pytest.mark.parametrize(
    "records",
    [
        [said(0), said(1), ended(2)],
        [said(0, "wrong"), reset(1), said(2), said(3), ended(4)],
        [said(0, "wrong"), reset(-1), said(0), said(1), ended(2)],
        [reset(4), said(5), said(6), ended(7)],
    ],
    ids=["plain", "a new attempt", "begun anew by the server", "joined at a reset"],
)
def test_a_whole_stream_has_no_complaint(records: list[Record]) -> None:
    """Contiguous from its beginning, or from a reset, to its terminal, and equal to its message."""
    stream = told(records)
    assert complaint(SCENARIO, stream) == ""
    assert stream.sight.repeats == 0


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([said(0), said(2), ended(3)], "chunk 2 came where 1 was due"),
        ([said(1), said(2), ended(3)], "chunk 1 came where 0 was due"),
        ([said(0), said(1)], "no terminal came; 2 chunks did"),
        ([said(0), said(1), ended(2), said(3)], "chunk 3 came after the terminal"),
        ([said(0), said(1), ended(2, "failed", "producer_lost")], "it ended failed/producer_lost"),
        ([said(0), said(1, "lie "), ended(2)], "its text (9 characters) is not its message's"),
    ],
    ids=["hole", "no beginning", "no end", "after the end", "a wrong end", "another text"],
)
def test_what_is_wrong_with_a_stream_is_said(records: list[Record], words: str) -> None:
    """One sentence a fault."""
    assert words in complaint(SCENARIO, told(records))


def test_a_repeated_chunk_is_counted() -> None:
    """Even where it harms nobody: the contract promises each once per connection, and a resume after the last id."""
    assert told([said(0), said(0), said(1), ended(2)]).sight.repeats == 1


def test_a_cell_with_a_loss_or_a_repeat_is_not_whole() -> None:
    """Either makes the command fail."""
    assert WHOLE.is_whole
    assert not replace(WHOLE, repeated=1).is_whole
    assert not replace(WHOLE, complaints=("a stream was lost",)).is_whole


def test_the_page_shows_every_cell_and_explains_every_column() -> None:
    """A reader needs nothing but the page."""
    page = markdown([WHOLE], ALL, ["# Title"])
    assert "| planted | pubsub | 2 | 3 | 3 | 1 | 0 | 0 | 0 | 0.5 |" in page
    assert all(f"**{heading}**" in page for heading in HEADINGS[2:])
    assert all(each.what in page for each in ALL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "earthquake"), "--list"),
        (("--backends", "smoke"), "use some of"),
        (("--out", "no/such/folder/page.md"), "make the folder"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_starts(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    """With the way to find out what there is, and not as if something had been lost."""
    refused = streamgauge_here("chaos", *arguments, folder=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert not (tmp_path / ".streamgauge").exists()


def test_the_faults_are_listed(tmp_path: Path) -> None:
    """Each with what it does."""
    listed = streamgauge_here("chaos", "--list", folder=tmp_path)
    assert listed.returncode == 0
    assert all(each.name in listed.stdout for each in ALL)
