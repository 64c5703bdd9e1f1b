"""The parser: bytes in, stamped events out, however the network cut them."""

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.sse import Event, Parser

LINE_ENDS = st.sampled_from(["\n", "\r", "\r\n"])
# Text without line ends and NUL, which the format cannot carry inside a field.
FIELD = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)


def parse(*pieces: bytes) -> list[tuple[str, str, str]]:
    parser = Parser()
    return [(event.id, event.data, event.name) for piece in pieces for event in parser.feed(piece)]


def test_an_event_is_its_id_and_data_and_ends_with_a_blank_line() -> None:
    """`id: 7`, `data: ...`, blank line is one event named message."""
    assert parse(b'id: 7\ndata: {"a": 1}\n\n') == [("7", '{"a": 1}', "message")]


def test_an_unfinished_event_is_never_returned() -> None:
    """A stream cut before the blank line loses that event, as in a browser."""
    assert parse(b"data: whole\n\ndata: cut\n") == [("", "whole", "message")]


def test_data_lines_are_joined_and_the_id_stays_in_force() -> None:
    """Several data lines become one text with line breaks; a later event without id keeps the last one."""
    assert parse(b"id: 1\ndata: a\ndata:b\ndata\n\ndata: c\n\n") == [("1", "a\nb\n", "message"), ("1", "c", "message")]


def test_comments_and_retry_are_kept_and_make_no_event() -> None:
    """Keep-alives are comments; retry must be digits."""
    parser = Parser()
    assert parser.feed(b"retry: 1000\n\n: keep-alive 3.2\n\nretry: soon\n\n") == []
    assert (parser.comments, parser.retry_ms) == (["keep-alive 3.2"], 1000)


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_works_at_any_cut(end: bytes) -> None:
    """A CR LF pair split between two reads is one line end, and delays nothing."""
    body = end.join([b"id: 1", b"data: a", b"", b"data: b", b"", b""])
    assert (
        parse(*(body[at : at + 1] for at in range(len(body))))
        == parse(body)
        == [
            ("1", "a", "message"),
            ("1", "b", "message"),
        ]
    )


def test_a_byte_order_mark_is_dropped_and_an_id_with_nul_ignored() -> None:
    """Both as the specification says."""
    assert parse(b"\xef", b"\xbb\xbfdata: a\nid: x\0y\n\n") == [("", "a", "message")]


def test_the_stamp_is_taken_when_the_blank_line_is_read() -> None:
    """Not when the data came: an event counts from the moment a client could act on it."""
    ticks = count(10)
    parser = Parser(clock=lambda: next(ticks))
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b\n\n") == [Event("", "a", "message", 10), Event("", "b", "message", 11)]


@given(st.data(), st.lists(st.tuples(FIELD, st.lists(FIELD, min_size=1, max_size=3)), max_size=6))
def test_any_events_survive_any_line_ends_and_any_cuts(
    data: st.DataObject, events: list[tuple[str, list[str]]]
) -> None:
    """What is written in the format comes back whole, in order, wherever the reads fall."""
    body, end = b"", data.draw(LINE_ENDS)
    for name, lines in events:
        for line in (f"id: {name}", *(f"data: {one}" for one in lines), ""):
            body += (line + end).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[low:high] for low, high in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert parse(*pieces) == [(name, "\n".join(lines), "message") for name, lines in events]


PIECES = st.sampled_from(
    [b"id: 7\ndata: a\n\n", b"id: 8\ndata: b\n", b"\n", b"\r", b": c\n\n", b"event: x\n", b"data: d\n\n", b"id: \xff\n"]
)


@given(st.lists(PIECES, max_size=12), st.lists(st.integers(0, 100), max_size=4))
def test_the_short_way_for_plain_events_gives_what_the_long_way_gives(pieces: list[bytes], cuts: list[int]) -> None:
    """Plain events among others, in any reads: the same as byte by byte."""
    body, at = b"".join(pieces), sorted(cuts)
    reads = [body[low:high] for low, high in zip([0, *at], [*at, len(body)], strict=True)]
    assert parse(*reads) == parse(*(body[one : one + 1] for one in range(len(body))))


@given(st.binary(max_size=200), st.integers(0, 200))
def test_arbitrary_bytes_never_break_it_and_cuts_never_change_it(body: bytes, cut: int) -> None:
    """Garbage gives no error, and the same events as in one piece."""
    assert parse(body[:cut], body[cut:]) == parse(body)
