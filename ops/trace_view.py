"""One message's trace as a waterfall in the terminal, from the spans that the processes of a stack wrote."""

import json
import re
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from rich.console import Console
from rich.text import Text

from ops.processes import StackError

PATIENCE_S, AGAIN_S = 4.0, 0.1
WRITTEN_S = 1.5
"""Spans are written a second after their end, and later on a busy machine: who asks at once need not ask again."""
BAR = 24
PIPED = 120
"""Columns where no terminal says how many it has."""
ROOM = 24
"""Columns that what is said of a span should have beside it; with fewer the bar gives way, and then it goes below."""
IN_THE_NAME = ("operation.", "provider.", "request.", "conversation.", "server.")
"""Attributes that the waterfall leaves out, because the line says them already, or every line or message would."""
PREFIXES = re.compile(r"^(streamgauge|gen_ai)\.")
HEAD = ("span", "where", "start ms", "took ms")
GAP = 2
BELOW = 8
"""How far what is said of a span stands in when it stands below."""
UNFINISHED = (
    "No span says how it ended: it waits for a worker, or one answers it still (spans are written a second after their "
    "end), or its worker was lost. `streamgauge doctor` finds what waits in vain."
)
Cells = tuple[str, str, str, str]


@dataclass(slots=True)
class Span:
    """One part of the work, with the parts that it consists of. Times are seconds of the wall clock."""

    name: str
    span_id: str
    parent_id: str | None
    service: str
    start: float
    end: float
    failed: bool
    attributes: dict[str, Any]
    events: list[tuple[float, str]]
    linked: bool
    """A viewer's: of a trace of its own."""
    parts: list["Span"] = field(default_factory=list)


class Row(NamedTuple):
    """A line: of a span, or of a moment in one."""

    cells: Cells
    span: Span | None


def read_trace(folder: Path, task_id: UUID) -> list[Span]:
    """Give the spans of a message and its viewers as a forest in order of time."""
    spans = {span.span_id: span for span in _spans(folder, task_id)}
    top = list[Span]()
    for span in sorted(spans.values(), key=lambda span: span.start):
        parent = spans.get(span.parent_id or "")
        (parent.parts if parent else top).append(span)
    return top


def show_trace(console: Console, folder: Path, task_id: UUID, patience_s: float = PATIENCE_S) -> None:
    """Print the waterfall once a span says how it ended and every process has had time to write its own.

    What there is after the patience is printed as it is.

    Raises `StackError` if there is no span at all, saying why that may be.
    """
    ends_at = time.monotonic() + patience_s
    while not _is_written(top := read_trace(folder, task_id)) and time.monotonic() < ends_at:
        time.sleep(AGAIN_S)
    if not top:
        raise StackError(
            f"No span of task {task_id} is in {folder}. A stream's spans are written a second after its end; "
            "they are kept by `streamgauge up` until its next start, and only for STREAMGAUGE_TRACE_RATIO of messages."
        )
    every = list(_in_order(top))
    began, ended = min(span.start for _, span in every), max(span.end for _, span in every)
    has_end = _has_end(top)
    so_far = "" if has_end else " so far"
    _print(console, f"task and trace {task_id}, {_ms(ended - began)} ms{so_far}")
    for line in _table(every, began, ended, console.width if console.is_terminal else PIPED):
        _print(console, line)
    if not has_end:
        _print(console, UNFINISHED)


def _has_end(top: list[Span]) -> bool:
    return any("outcome" in span.attributes for _, span in _in_order(top))


def _is_written(top: list[Span]) -> bool:
    """Tell whether nothing is on its way any more: viewers see an end a little after the worker has said it."""
    return _has_end(top) and time.time() > max(span.end for _, span in _in_order(top)) + WRITTEN_S


def _print(console: Console, line: str | Text) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _table(every: list[tuple[int, Span]], began: float, ended: float, width: int) -> Iterator[Text]:
    """Lay the spans out in these many columns. Names and figures stand in full, whatever that takes."""
    rows = [row for depth, span in every for row in _rows(depth, span, began)]
    wide = [max(map(len, column)) for column in zip(HEAD, *(row.cells for row in rows), strict=True)]
    room = width - sum(wide) - GAP * len(wide)
    has_bar, is_beside = room >= BAR + GAP + ROOM, room >= ROOM
    room -= BAR + GAP if has_bar else 0
    yield Text(_aligned(HEAD, wide).rstrip(), "bold")
    for row in rows:
        line = Text(_aligned(row.cells, wide), "" if row.span else "dim")
        if has_bar and row.span:
            line.append(" " * GAP).append(f"{_bar(row.span, began, ended):{BAR}}", _colour(row.span))
        said = _what(row.span) if row.span else ""
        first, *rest = textwrap.wrap(
            said, room if is_beside else width - BELOW, break_long_words=False, break_on_hyphens=False
        ) or [""]
        if is_beside:
            margin = line.cell_len + GAP
            line.append(" " * GAP + first)
        else:
            margin, rest = BELOW, [first, *rest] if first else []
        line.rstrip()
        yield line
        yield from (Text(" " * margin + more) for more in rest)


def _rows(depth: int, span: Span, began: float) -> Iterator[Row]:
    indent = "  " * depth
    name = f"{indent}{'↳ ' if span.linked else ''}{span.name}"
    yield Row((name, span.service, _ms(span.start - began), _ms(span.end - span.start)), span)
    for at, event in span.events:
        yield Row((f"{indent}  · {event}", "", _ms(at - began), ""), None)


def _aligned(cells: Cells, wide: list[int]) -> str:
    name, where, start, took = cells
    parts = (f"{name:{wide[0]}}", f"{where:{wide[1]}}", f"{start:>{wide[2]}}", f"{took:>{wide[3]}}")
    return (" " * GAP).join(parts)


def _colour(span: Span) -> str:
    return "red" if span.failed else "magenta" if span.linked else "cyan"


def _what(span: Span) -> str:
    shown = {key: value for key, value in span.attributes.items() if not key.startswith(IN_THE_NAME)}
    names = ((key.rsplit(".", 1)[-1], value) for key, value in shown.items())
    return " ".join(f"{key}={round(value, 3) if isinstance(value, float) else value}" for key, value in names)


def _bar(span: Span, began: float, ended: float) -> str:
    scale = BAR / max(ended - began, 1e-9)
    left = min(BAR - 1, int((span.start - began) * scale))
    return " " * left + "━" * max(1, min(BAR - left, round((span.end - span.start) * scale)))


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _in_order(spans: list[Span], depth: int = 0) -> Iterator[tuple[int, Span]]:
    for span in spans:
        yield depth, span
        yield from _in_order(span.parts, depth + 1)


def _spans(folder: Path, task_id: UUID) -> Iterator[Span]:
    wanted = task_id.hex
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as lines:
            for line in lines:
                # Nearly every line is of another message: a look for the id is cheaper than a parse.
                if wanted in line and line.endswith("\n"):
                    yield _span(json.loads(line), wanted)


def _span(record: dict[str, Any], trace_id: str) -> Span:
    return Span(
        name=record["name"],
        span_id=record["span_id"],
        parent_id=record["parent_id"],
        service=record["service"],
        start=record["start_ns"] / 1e9,
        end=record["end_ns"] / 1e9,
        failed=record["failed"],
        attributes={PREFIXES.sub("", key): value for key, value in record["attributes"].items()},
        events=[(event["at_ns"] / 1e9, event["name"]) for event in record["events"]],
        linked=record["trace_id"] != trace_id,
    )
