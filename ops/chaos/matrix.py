"""The matrix: fault × backend, counted from what viewers saw."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ops.chaos.crowd import Crowd, Told
from ops.chaos.scenarios import Scenario

HEADINGS = ("fault", "backend", "live", "streams", "intact", "recovered", "lost", "repeated", "refused", "silence")
MEANINGS = (
    ("live", "streams that ran when the fault struck"),
    ("streams", "all that were accepted: the live ones, and those posted while it lasted"),
    (
        "intact",
        "ended as the contract promises, every chunk once and in order, the text equal to the committed message",
    ),
    ("recovered", "the intact ones that felt it: cut off, begun anew, handed over, or kept waiting for over a second"),
    ("lost", "not intact"),
    ("repeated", "chunks that a viewer saw twice"),
    ("refused", "answers 503 to a POST, which was sent again"),
    ("silence", "the longest that any viewer waited for its next chunk, in seconds"),
)


@dataclass(frozen=True)
class Cell:
    """One fault on one backend."""

    fault: str
    backend: str
    live: int
    streams: int
    intact: int
    recovered: int
    repeated: int
    refused: int
    silence_s: float
    complaints: tuple[str, ...]
    """What was lost, one line a stream."""

    @property
    def lost(self) -> int:
        """Streams that were accepted and are not whole."""
        return len(self.complaints)

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost or repeated here."""
        return not self.complaints and not self.repeated

    @property
    def words(self) -> tuple[str, ...]:
        """The cell as a row under `HEADINGS`."""
        numbers = (self.live, self.streams, self.intact, self.recovered, self.lost, self.repeated, self.refused)
        return (self.fault, self.backend, *map(str, numbers), f"{self.silence_s:.1f}")


def cell(scenario: Scenario, backend: str, crowd: Crowd) -> Cell:
    """Count one backend's streams."""
    streams = [told for told in crowd.streams if told.backend == backend]
    judged = [(told, complaint(scenario, told)) for told in streams]
    intact = [told for told, wrong in judged if not wrong]
    lost = [f"{told.task_id}: {wrong}" for told, wrong in judged if wrong]
    lost += [f"message {number + 1} was refused to the end" for number in range(crowd.unsent[backend])]
    return Cell(
        fault=scenario.name,
        backend=backend,
        live=sum(told.was_live for told in streams),
        streams=len(streams),
        intact=len(intact),
        recovered=sum(told.felt_it for told in intact),
        repeated=sum(told.sight.repeats for told in streams),
        refused=crowd.refused[backend],
        silence_s=max((told.sight.silence_s for told in streams), default=0.0),
        complaints=tuple(lost),
    )


def complaint(scenario: Scenario, told: Told) -> str:
    """Say what is wrong with a stream under this fault; empty for nothing."""
    found = told.complaints
    if told.sight.ending is not None and told.sight.ending not in scenario.endings:
        found.append(f"it ended {told.sight.ending}")
    return "; ".join(found)


def markdown(cells: Iterable[Cell], scenarios: Sequence[Scenario], heading: Sequence[str]) -> str:
    """Write the matrix as a page: what was run, the faults, the columns, the counts."""
    rows = ["| " + " | ".join(each.words) + " |" for each in cells]
    lines = [
        *heading,
        "",
        "| fault | what happens |",
        "|---|---|",
        *(f"| {each.name} | {each.what} |" for each in scenarios),
        "",
        *(f"- **{name}**: {meaning}." for name, meaning in MEANINGS),
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|---|---|" + "---:|" * (len(HEADINGS) - 2),
        *rows,
    ]
    return "\n".join(lines) + "\n"
