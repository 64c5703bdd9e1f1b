"""What a person sees while the load runs: on a terminal a live line, elsewhere one plain line per block."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import generator
from loadtest.plan import Plan


class Display:
    """Shows streams open and done, chunks and the time passed; leaving it restores the terminal."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._total = sum(len(block.arrivals) for block in plan.blocks)
        self._before: dict[int, generator.Progress] = {}
        # Four times a second: drawing competes with the system under test for the processor.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} streams"),
            TextColumn("{task.fields[open]} open, {task.fields[chunks]} chunks"),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=4,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting the load", total=self._total, open=0, chunks=0)

    def __enter__(self) -> Self:
        streams = f"{len(self._plan.blocks)} blocks, {self._total} streams"
        flips = self._plan.flips
        turns = f"{len(flips.flips)} flips of the flag, from {flips.first}" if flips else "backends alternating"
        self._console.print(f"load: {streams}, {turns} (seed {self._plan.seed})", highlight=False)
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
        done = sum(one.done for one in self._before.values())
        chunks = sum(one.chunks for one in self._before.values())
        self._progress.update(
            self._task, description=self._describe(seen), completed=done, open=seen.open, chunks=chunks
        )
        if seen.event == "over" and not self._console.is_terminal:
            self._console.print(f"{self._describe(seen)}: {done}/{self._total} streams, {chunks} chunks")

    def note(self, text: str) -> None:
        """Say something beside the bar."""
        self._progress.console.print(text)

    def _describe(self, seen: generator.Progress) -> str:
        if seen.event == "end":
            return "load ended"
        block = self._plan.blocks[seen.block]
        kind = "" if block.quartet is not None else " (warm-up)"
        return f"block {seen.block + 1}/{len(self._plan.blocks)} {block.backend or 'by the flag'}{kind}"
