"""Whatever a provider sends is heard, or is an error that says it was the provider's."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.speech import Delta, DoneError, ModelError, Speech, TooLongError

NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
ODDITIES = [
    (b'{"choices":null,"usage":{"prompt_tokens":1}}', "", None, NO_USAGE | {"prompt_tokens": 1}),
    (b'{"choices":[],"usage":{"prompt_tokens":null,"total_tokens":2.0}}', "", None, NO_USAGE | {"total_tokens": 2}),
    (b'{"choices":[],"usage":{"total_tokens":1e300,"prompt_tokens":-1,"x":{}}}', "", None, NO_USAGE),
    (b'{"choices":[{"delta":{"content":"a"}}],"usage":[]}', "a", None, None),
    (b'{"choices":[{"delta":{"content":"a"},"finish_reason":7}]}', "a", "7", None),
    (b'{"choices":[{"delta":{"content":"a"},"finish_reason":""}],"error":""}', "a", None, None),
    (b'{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"x"},{"text":"b"}]}}]}', "ab", None, None),
    (b"", "", None, None),
]


@pytest.mark.parametrize(("event", "text", "reason", "usage"), ODDITIES)
def test_an_oddity_spoils_no_answer(event: bytes, text: str, reason: str | None, usage: dict[str, int] | None) -> None:
    """Providers differ in what goes with the text; the text is heard, and the answer is over when they say so."""
    deltas = list[Delta]()
    speech = Speech(deltas.append, max_chars=100)
    speech.take(b"data: " + event + b"\n\n")
    ends = [(text, reason, usage)] if text or reason or usage else []
    assert [(delta.text, delta.finish_reason, delta.usage) for delta in deltas] == ends
    assert speech.finished == (reason is not None)


PIECES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([
        b"data: ", b"\n", b"\r", b"\n\n", b"data: [DONE]\n", b": a comment\n", b'{"choices": [{"delta": {"content": "',
        b'data: {"choices": [{"delta": {"content": "a\\u0000\\ud83c\\udf0a"}, "finish_reason": null}]}\n', b'"}}]}\n',
        b'data: {"choices": [], "usage": {"total_tokens": 1e400}}\n', b'data: {"choices": [null]}\n', b"data: 7\n",
    ]),
)  # fmt: skip


def heard(*reads: bytes) -> tuple[str, str]:
    """What is heard of an answer that comes in these reads, and how it ends."""
    deltas = list[Delta]()
    speech = Speech(deltas.append, max_chars=3)
    try:
        for read in reads:
            speech.take(read)
        speech.end()
    except (ModelError, DoneError, TooLongError) as end:
        ending = f"{type(end).__name__} {end}"
    else:
        ending = "open"
    return "".join(delta.text for delta in deltas), ending


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_lines_end_in_any_of_the_three_ways_that_the_standard_has(ending: bytes) -> None:
    """Wherever a read ends, within a CRLF as well."""
    lines = [b'data: {"choices": [{"delta": {"content": "%b"}}]}' % text for text in (b"a", b"\\r", b"c")]
    body = b"".join(line + ending * 2 for line in [*lines, b"data: [DONE]"])
    for cut in range(len(body)):
        assert heard(body[:cut], body[cut:]) == ("a\rc", "DoneError ")


@settings(max_examples=200)
@given(pieces=st.lists(PIECES, max_size=8), cut=st.integers(0, 200))
@example(pieces=[b"data: " + b"[" * 100_000 + b"\n"], cut=9)  # deeper than a decoder goes
def test_whatever_a_provider_sends_is_heard_or_its_own_fault(pieces: list[bytes], cut: int) -> None:
    """No other error, wherever the reads fall, and nothing that PostgreSQL can't hold."""
    body = b"".join(pieces)
    text, _ = whole = heard(body)
    assert heard(body[:cut], body[cut:]) == whole
    assert "\0" not in text
    text.encode()  # no half of a pair
