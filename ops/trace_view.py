"""One message's trace as a waterfall in the terminal, from the spans that the processes of a stack wrote."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.processes import StackError

BAR = 24
IN_THE_NAME = ("operation.", "provider.", "request.", "conversation.", "server.", "backend")
"""Attributes that the waterfall leaves out, because the line says them already, or every line or message would."""
PREFIXES = re.compile(r"^(streamgauge|gen_ai)\.")


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


def read_trace(folder: Path, task_id: UUID) -> list[Span]:
    """Give the spans of a message and its viewers as a forest in order of time."""
    spans = {span.span_id: span for span in _spans(folder, task_id)}
    top = list[Span]()
    for span in sorted(spans.values(), key=lambda span: span.start):
        parent = spans.get(span.parent_id or "")
        (parent.parts if parent else top).append(span)
    return top


def show_trace(console: Console, folder: Path, task_id: UUID) -> None:
    """Print the waterfall. Raises `StackError` when there is nothing to print, saying why that may be."""
    top = read_trace(folder, task_id)
    if not top:
        raise StackError(
            f"No span of task {task_id} is in {folder}. A stream's spans are written a second after its end; "
            "they are kept by `streamgauge up` until its next start, and only for STREAMGAUGE_TRACE_RATIO of messages."
        )
    every = list(_in_order(top))
    began, ended = min(span.start for _, span in every), max(span.end for _, span in every)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, side in (("span", "left"), ("where", "left"), ("start ms", "right"), ("took ms", "right")):
        table.add_column(title, justify=side, no_wrap=True)  # type: ignore[arg-type]  # a literal, by the loop above
    table.add_column("", no_wrap=True, width=BAR)
    table.add_column("what", overflow="fold")
    for depth, span in every:
        colour = "red" if span.failed else "magenta" if span.linked else "cyan"
        name = f"{'  ' * depth}{'↳ ' if span.linked else ''}{span.name}"
        table.add_row(
            escape(name), span.service, _ms(span.start - began), _ms(span.end - span.start),
            f"[{colour}]{_bar(span, began, ended)}[/]", escape(_what(span)),
        )  # fmt: skip
        for at, event in span.events:
            table.add_row(f"{'  ' * depth}  · {escape(event)}", "", _ms(at - began), "", "", "", style="dim")
    console.print(f"task and trace {task_id}, {_ms(ended - began)} ms", highlight=False)
    console.print(table)


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
