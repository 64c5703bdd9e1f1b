"""Recorded arrivals: read exactly, refused with the line and the fix."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from loadtest.trace import Request, TraceError, read

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
GOOD = HEADER + "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.csv"


def test_arrivals_are_seconds_after_the_first(file: Path) -> None:
    """With both token counts."""
    file.write_text(GOOD)
    first, second = read(file, limit=10)
    assert first == Request(0.0, 374, 44)
    assert second == Request(4.314579, 396, 109)


def test_the_limit_and_the_time_scale_are_applied(file: Path) -> None:
    """Half the scale, half the distances; what lies beyond the limit is not even read."""
    file.write_text(GOOD + "nonsense\n")
    assert [one.at_s for one in read(file, limit=2, time_scale=0.5)] == [0.0, pytest.approx(2.1572895)]


def test_an_offset_from_utc_counts(file: Path) -> None:
    """A time without one is UTC; the decimals stand before it."""
    times = ("18:17:03+02:00", "16:17:04.5Z", "18:17:05.25+0200", "16:17:06", "16:17:07.1234567+00:00")
    file.write_text(HEADER + "".join(f"2023-11-16 {time},1,2\n" for time in times))
    assert [one.at_s for one in read(file, limit=9)] == [0.0, 1.5, 2.25, 3.0, 4.123456]
    file.write_text(HEADER + "2023-11-16 18:17:03+00:00,1,2\n2023-11-16 18:17:04+02:00,1,2\n")
    with pytest.raises(TraceError, match="earlier than the line before"):
        read(file, limit=9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: expected the columns"),
        ("time,a,b\n", "line 1: expected the columns"),
        (HEADER, "no requests after the header"),
        (HEADER + "2023-11-16 18:15:46,1\n", "line 2: 2 columns instead of 3"),
        (HEADER + "yesterday,1,2\n", "line 2: 'yesterday' is no time"),
        (GOOD + "2023-11-16 18:15:51,x,2\n", "line 4: ContextTokens is 'x'"),
        (GOOD + "2023-11-16 18:15:51,1,0\n", "line 4: GeneratedTokens is '0'"),
        (GOOD + "2023-11-16 18:15:51,1,-4\n", "line 4: GeneratedTokens is '-4'"),
        (
            GOOD + f"2023-11-16 18:15:51,1,{'9' * 20}\n",
            f"line 4: GeneratedTokens is '{'9' * 20}': write a whole number from 1 to 999999999999",
        ),
        (GOOD + f"2023-11-16 18:15:51,{'9' * 5000},1\n", "line 4: ContextTokens is '9+': .* from 0 to 999999999999"),
        (GOOD + "2023-11-16 18:15:47,1,2\n", "line 4: .* earlier than the line before"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_the_fix(file: Path, text: str, complaint: str) -> None:
    """Nothing is skipped silently."""
    file.write_text(text)
    with pytest.raises(TraceError, match=complaint):
        read(file, limit=10)


def test_a_missing_or_binary_file_and_a_bad_scale_are_refused(file: Path) -> None:
    """Each with what to give instead."""
    with pytest.raises(TraceError, match="give the path of a CSV file"):
        read(file, limit=1)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not UTF-8"):
        read(file, limit=1)
    with pytest.raises(TraceError, match="give 1 for real time"):
        read(file, limit=1, time_scale=0)


@given(gaps=st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_any_trace_comes_back_to_the_microsecond(tmp_path_factory: pytest.TempPathFactory, gaps: list[int]) -> None:
    """Written and read, the distances stay."""
    file = tmp_path_factory.mktemp("trace") / "trace.csv"
    moments = [datetime(2023, 11, 16)]  # noqa: DTZ001
    for gap in gaps:
        moments.append(moments[-1] + timedelta(microseconds=gap))
    file.write_text(HEADER + "".join(f"{moment},1,2\n" for moment in moments))
    expected = [(moment - moments[0]).total_seconds() for moment in moments]
    assert [one.at_s for one in read(file, limit=100)] == expected


FIELD = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from(
        ["2023-11-16 18:15:46.68", "2023-11-16T18:15:46+01:00", "9999-12-31 23:59:59", "1", '"', "\r", "\0"]
    ),
)
LINE = st.lists(FIELD, min_size=1, max_size=4).map(",".join)


@settings(max_examples=200)
@given(lines=st.lists(LINE, max_size=5), end=st.sampled_from(["\n", "\r\n", "\r"]))
@example(lines=["2023-11-16 18:15:46.68,1," + "9" * 5000], end="\n")  # more digits than Python reads
@example(lines=["0001-01-01 00:00:00+01:00,1,2"], end="\n")  # before the first instant that Python knows
@example(lines=["x" * 200_000], end="\n")  # a longer field than the csv module takes
@example(lines=['"2023-11-16 18:15:46.68,1,2'], end="\n")
def test_whatever_the_file_holds_it_is_read_or_refused_with_the_fix(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str
) -> None:
    """No other error, and what is read are requests in order."""
    file = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    file.write_text(HEADER + end.join(lines), newline="")
    try:
        found = read(file, limit=100)
    except TraceError as error:
        assert str(file) in str(error)  # noqa: PT017 - either is right
    else:
        assert found[0].at_s == 0
        assert all(one.output_tokens >= 1 and one.context_tokens >= 0 for one in found)
        assert [one.at_s for one in found] == sorted(one.at_s for one in found)
