"""What a person or a program sees while the load runs: a live line, elsewhere one line a block, or lines of JSON."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import generator, remaining, summary
from loadtest.clock import Offset
from loadtest.plan import Plan
from loadtest.reach import PATIENCE_S
from loadtest.recorder import StreamRow
from loadtest.stats import Distribution
from loadtest.wording import counted, seconds

Mode = Literal["auto", "json", "none"]
HERE = Offset(same_host=True, offset_ns=0, bound_ns=0)


class Showing(NamedTuple):
    """How to show it, and how far the target's clock is from that of the rows."""

    mode: Mode = "auto"
    offset: Offset = HERE


PLAINLY = Showing()


def say(**fact: Any) -> None:
    """One JSON line on the standard output."""
    sys.stdout.write(msgspec.json.encode(fact).decode() + "\n")
    sys.stdout.flush()


class Figures:
    """What the rows written so far say: delivery by backend, and the streams that were not whole."""

    def __init__(self, rows: Path, offset: Offset) -> None:
        self._rows, self._offset, self._read = rows, offset, 0
        self._decoder = msgspec.json.Decoder(StreamRow)
        self.by_backend: dict[str, Distribution] = {}
        self.errors = 0

    def catch_up(self) -> None:
        """Read what was written since; between blocks, when nothing is being measured."""
        if not self._rows.exists():
            return
        with self._rows.open("rb") as file:
            file.seek(self._read)
            found = [line for line in file if line.endswith(b"\n")]
        self._read += sum(map(len, found))
        for one in summary.measure(map(self._decoder.decode, found)):
            self.errors += not one.good
            if one.measured:
                known = self.by_backend.setdefault(one.row.backend, Distribution())
                known.merge(summary.delivery_latency([one], self._offset))


class Display:
    """Shows streams open and done, chunks, latencies and the time left; leaving it restores the terminal."""

    def __init__(self, console: Console, plan: Plan, rows: Path, showing: Showing = PLAINLY) -> None:
        self._console, self._plan, self._mode = console, plan, showing.mode
        self._total = sum(len(block.arrivals) for block in plan.blocks)
        self._before: dict[int, generator.Progress] = {}
        self._figures = Figures(rows, showing.offset)
        self._rated = time.monotonic()
        self._left = remaining.Remaining(plan, self._rated)
        self._chunks, self._chunks_per_s = 0, 0.0
        self._away_s: float | None = None
        # Four times a second: drawing competes with the system under test for the processor.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.completed:.0f}/{task.total:.0f} streams"),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
            disable=self._mode != "auto" or not console.is_terminal,
        )
        self._task = self._progress.add_task("starting the load", total=self._total, said="")

    def __enter__(self) -> Self:
        streams = f"{counted(len(self._plan.blocks), 'block')}, {counted(self._total, 'stream')}"
        flips = self._plan.flips
        names = list(dict.fromkeys(block.backend for block in self._plan.blocks))
        turns = "backends alternating" if len(names) > 1 else f"{', '.join(names)} alone"
        turns = f"{counted(len(flips.flips), 'flip')} of the flag, from {flips.first}" if flips else turns
        self.note(f"load: {streams}, {turns} (seed {self._plan.seed})")
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, seen: generator.Progress) -> None:
        """Take one report of the generator."""
        if seen.event == "progress":
            self._before[seen.block] = seen
        elif seen.event == "over":
            self._figures.catch_up()
        self._left.heard(seen, time.monotonic())
        facts = self._facts(seen)
        if self._mode == "json":
            say(**facts)
        self._progress.update(
            self._task, description=self._describe(seen), completed=facts["done"], said=self._said(facts)
        )
        if seen.event == "over" and self._mode == "auto" and not self._console.is_terminal:
            line = f"{self._describe(seen)}: {facts['done']:,}/{counted(self._total, 'stream')}, {self._said(facts)}"
            self._console.print(line, highlight=False, soft_wrap=True)

    def away(self, away_s: float | None) -> None:
        """Take for how long the target could not be reached; said at once when that begins and when it is over."""
        before, self._away_s = self._away_s, away_s
        if (before is None) == (away_s is None):
            return
        if self._mode == "json":
            say(event="unreachable" if before is None else "reachable")
        if before is None:
            self.note(f"the target can't be reached: the run ends if that stays so for {PATIENCE_S:g} s")
        else:
            self.note("the target can be reached again")

    def note(self, text: str) -> None:
        """Say something beside the bar."""
        if self._mode == "auto":
            self._progress.console.print(text, highlight=False)

    def _facts(self, seen: generator.Progress) -> dict[str, Any]:
        done = sum(one.done for one in self._before.values())
        chunks = sum(one.chunks for one in self._before.values())
        now = time.monotonic()
        if now - self._rated >= 1.0:
            self._chunks_per_s = (chunks - self._chunks) / (now - self._rated)
            self._chunks, self._rated = chunks, now
        spreads = self._figures.by_backend.items()
        block = len(self._plan.blocks) - 1 if seen.event == "end" else seen.block
        return {
            "event": seen.event,
            "block": block,
            "backend": self._plan.blocks[block].backend,
            "open": seen.open,
            "done": done,
            "total": self._total,
            "chunks": chunks,
            "chunks_per_s": round(self._chunks_per_s, 1),
            "delivery_p50_s": {name: spread.percentile_s(50) for name, spread in spreads},
            "delivery_p99_s": {name: spread.percentile_s(99) for name, spread in spreads},
            "errors": self._figures.errors,
            "away_s": round(self._away_s or 0.0, 1),
            "left_s": round(self._left.left_s(now), 1) if done < self._total else 0.0,
        }

    def _said(self, facts: Mapping[str, Any]) -> str:
        latencies = [
            f"{name} {seconds(facts['delivery_p50_s'][name])} / {seconds(facts['delivery_p99_s'][name])}"
            for name, p50_s in facts["delivery_p50_s"].items()
            if p50_s is not None  # a model does not say when it held a token
        ]
        parts = [f"{facts['open']} open", f"{facts['chunks_per_s']:.0f} chunks/s"]
        parts += [f"p50 / p99: {', '.join(latencies)}"] if latencies else []
        parts += [f"{facts['errors']} not whole"] if facts["errors"] else []
        parts += [f"target away for {facts['away_s']:.0f} s"] if facts["away_s"] else []
        parts += [f"{facts['left_s']:.0f} s left"] if facts["left_s"] else []
        return ", ".join(parts)

    def _describe(self, seen: generator.Progress) -> str:
        if seen.event == "end":
            return "load ended"
        block = self._plan.blocks[seen.block]
        kind = "" if block.quartet is not None else " (warm-up)"
        return f"block {seen.block + 1}/{len(self._plan.blocks)} {block.backend or 'by the flag'}{kind}"
