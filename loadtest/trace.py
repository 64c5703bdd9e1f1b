"""Recorded arrivals and output lengths from a CSV file in the form of the Azure LLM inference trace.

Columns: TIMESTAMP (up to 7 decimals; UTC, unless an offset follows), ContextTokens, GeneratedTokens. The trace has no
text, so the length of the question is read but not replayed: the scripted model does not work harder for a longer one.
"""

import csv
import math
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from loadtest.wording import counted

HEADER = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
MOST_TOKENS = 999_999_999_999
TIME = re.compile(r"(?P<stem>.*?)(\.(?P<fraction>[0-9]*))?(?P<offset>Z|[+-][0-9]{2}:?[0-9]{2})?", re.DOTALL)


class TraceError(ValueError):
    """The file cannot be replayed; the message names the line and what to change."""


class Request(NamedTuple):
    """One recorded request, `at_s` seconds after the first."""

    at_s: float
    context_tokens: int
    output_tokens: int


def read(path: Path, *, limit: int, time_scale: float = 1.0) -> list[Request]:
    """The first `limit` requests, their distances multiplied by `time_scale` (0.5 replays twice as fast).

    Nothing is skipped or mended silently: a line that is not a request raises TraceError.
    """
    if not 0 < time_scale < math.inf:
        raise TraceError(f"time scale {time_scale} is no number above 0: give 1 for real time, 0.5 for twice as fast")
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            return _requests(path, lines, limit, time_scale)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}: give the path of a CSV file") from error
    except csv.Error as error:
        raise TraceError(f"{path}: no CSV ({error}): give a file with {','.join(HEADER)}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: not UTF-8 text: give a CSV file with {','.join(HEADER)}") from error


def split(requests: list[Request], parts: int) -> list[list[Request]]:
    """The trace in so many parts of about the same number, one after the other."""
    if len(requests) < parts:
        raise ValueError(
            f"{counted(len(requests), 'request')} can't fill {parts} segments: "
            "give a longer trace or more --num-conversations"
        )
    bounds = [round(part * len(requests) / parts) for part in range(parts + 1)]
    return [requests[low:high] for low, high in pairwise(bounds)]


def _requests(path: Path, lines: object, limit: int, time_scale: float) -> list[Request]:
    rows = csv.reader(lines)  # type: ignore[arg-type]
    header = next(rows, None)
    if header is None or [name.strip() for name in header] != HEADER:
        raise TraceError(f"{path}, line 1: expected the columns {','.join(HEADER)}: put them on the first line")
    found: list[Request] = []
    first: datetime | None = None
    previous = 0.0
    for row in rows:
        if len(found) >= limit:
            break
        if not row:
            continue
        where = f"{path}, line {rows.line_num}"
        moment, context, output = _fields(where, row)
        first = first or moment
        at_s = (moment - first).total_seconds() * time_scale
        if at_s < previous:
            raise TraceError(f"{where}: {row[0]} is earlier than the line before: sort the file by TIMESTAMP")
        previous = at_s
        found.append(Request(at_s, context, output))
    if not found:
        raise TraceError(f"{path}: no requests after the header: give a trace with at least one line")
    return found


def _fields(where: str, row: list[str]) -> tuple[datetime, int, int]:
    if len(row) != len(HEADER):
        raise TraceError(f"{where}: {counted(len(row), 'column')} instead of 3: write {','.join(HEADER)}")
    return _moment(where, row[0]), _tokens(where, HEADER[1], row[1], 0), _tokens(where, HEADER[2], row[2], 1)


def _moment(where: str, text: str) -> datetime:
    stem, fraction, offset = TIME.fullmatch(text.strip()).group("stem", "fraction", "offset")  # type: ignore[union-attr]
    try:
        # The trace has seven decimals where datetime takes six; the seventh is a tenth of a microsecond.
        moment = datetime.fromisoformat(f"{stem}.{(fraction or '0')[:6]:0<6}{offset or 'Z'}")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise TraceError(f"{where}: {text!r} is no time: write it like 2023-11-16 18:15:46.6805900") from error


def _tokens(where: str, column: str, text: str, least: int) -> int:
    stripped = text.strip()
    is_number = stripped.isascii() and stripped.isdigit() and len(stripped) <= len(str(MOST_TOKENS))
    if not is_number or int(stripped) < least:
        raise TraceError(f"{where}: {column} is {text[:40]!r}: write a whole number from {least} to {MOST_TOKENS}")
    return int(stripped)
