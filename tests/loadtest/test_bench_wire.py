"""The lean load's scanner: it is quick because it does not parse, and must see every fault all the same."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.bench.wire import Answer, BrokenError, Stream, Tally

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED_HEAD = HEAD + b"Transfer-Encoding: chunked\r\n"
TS_NS = 1_000
DELTAS = 3


def record(index: int, kind: str = "content", text: str = "word ") -> bytes:
    fields = {"chunk_index": index, "chunk_type": kind, "content": text, "attempt": 1, "deltas": DELTAS, "ts_ns": TS_NS}
    return b"id: %d\ndata: %b\n\n" % (index, json.dumps(fields, separators=(",", ":")).encode())


def body(*events: bytes, chunked: bool) -> bytes:
    if not chunked:
        return HEAD + b"\r\n" + b"".join(events)
    return CHUNKED_HEAD + b"\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def feed(stream: Stream, data: bytes, *cuts: int) -> bool:
    """Hand the pieces over as reads into one buffer, and tell whether the last one completed the stream."""
    buffer, is_over = bytearray(1 << 16), False
    for low, high in zip((0, *cuts), (*cuts, len(data)), strict=True):
        if low < high:
            buffer[: high - low] = data[low:high]
            is_over = stream.received(buffer, high - low, TS_NS + 5) or is_over
    return is_over


def opened(*, keep_text: bool = False) -> tuple[Tally, Stream]:
    tally = Tally(is_open=True)
    return tally, Stream(tally, 0, keep_text=keep_text)


@given(st.data(), st.booleans(), st.booleans(), st.lists(st.text(max_size=6), min_size=1, max_size=8))
def test_every_chunk_is_counted_once_however_the_bytes_were_cut(
    data: st.DataObject, chunked: bool, keep_text: bool, texts: list[str]
) -> None:
    """With comments between them, in either coding of the body; kept texts are the ones that were sent."""
    events = [b"retry: 1000\n\n", *(record(index, text=text) for index, text in enumerate(texts))]
    whole = body(*events, b": keep-alive 3\n\n", record(len(texts), "done", ""), chunked=chunked)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    tally, stream = opened(keep_text=keep_text)
    assert feed(stream, whole, *cuts)
    assert list(tally.delivery) == [5] * len(texts)
    assert tally.deltas == DELTAS * len(texts)
    assert len(tally.ttft) == 1
    assert stream.text == (texts if keep_text else [])


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([record(0), record(2)], "index 2 came where 1 was due"),
        ([record(0), record(0)], "index 0 came where 1 was due"),
        ([record(0), record(1, "failed", "")], "ended with failed"),
        ([record(0), record(1, "reset", "")], "ended with reset"),
    ],
)
def test_what_breaks_the_contract_is_seen(events: list[bytes], why: str, chunked: bool) -> None:
    """Holes, repeats, other endings: alone in a read, or with others."""
    whole = body(*events, chunked=chunked)
    for cuts in ((), (whole.index(b"\r\n\r\n") + 4, whole.index(b"id: 0") + len(events[0]) + 2 * chunked)):
        with pytest.raises(BrokenError, match=why):
            feed(opened()[1], whole, *cuts)


@pytest.mark.parametrize("end", [b"0\r\n\r\n", None])
def test_a_stream_that_ends_without_its_terminal_is_broken(end: bytes | None) -> None:
    """By the body's end, or the connection's."""
    _, stream = opened()
    assert not feed(stream, body(record(0), chunked=True))
    with pytest.raises(BrokenError, match="ended"):
        stream.received(bytearray(end or b""), len(end or b""), 0)


def test_outside_the_window_nothing_is_counted_but_faults() -> None:
    """The order is still watched."""
    tally, stream = opened()
    tally.is_open = False
    assert feed(stream, body(record(0), record(1), record(2, "done", ""), chunked=True))
    assert not tally.delivery


def test_a_stream_that_is_refused_says_so() -> None:
    """With its status."""
    with pytest.raises(BrokenError, match="404"):
        feed(opened()[1], b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}")


def test_an_answer_is_whole_with_its_last_byte() -> None:
    """And one that is no success is an error with its text."""
    data = b'HTTP/1.1 201 Created\r\ncontent-length: 11\r\nserver: x\r\n\r\n{"id": "a"}'
    answer = Answer()
    assert not answer.received(bytearray(data[:-1]), len(data) - 1, 1)
    assert answer.received(bytearray(data[-1:]), 1, 2)
    assert (answer.body, answer.at_ns) == (b'{"id": "a"}', 2)
    refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    with pytest.raises(BrokenError, match="503: busy"):
        Answer().received(bytearray(refused), len(refused), 1)
