"""What will be sent, when, and to which backend: decided before the run, the same for the same seed.

Two backends are compared in randomised ABBA/BAAB quartets. A quartet plays two segments (lists of arrivals), each of
them once per backend, so both sides meet the same work and a steady drift of the machine cancels out of the ratio.
Running all of A and then all of B would call drift a difference. More backends stand between them, and the whole still
reads the same backwards (ABCCBA), so any two of them are compared as those two are.

Inside each quartet its outer backend plays both segments a second time (A A' B B A' A). The twins A' enter no figure
but one: A' ÷ A ought to be 1, and how far it is from that is the noise floor of this run on this machine.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from loadtest.flips import Timetable
from loadtest.schedules import Schedule
from loadtest.trace import Request, split
from loadtest.viewers import Viewer, Watch, Watching, once

# Long enough to mean something, short enough that two quartets' worth of them stay within a minute.
QUICK_STREAM_S, STREAM_S = 1.2, 5.0
QUICK_QUARTETS, QUARTETS, TRACE_QUARTETS = 3, 5, 2
QUICK_CONVERSATIONS, CONVERSATIONS = 60, 100
QUICK_TRACE_REQUESTS = 40
QUICK_TRACE_TOKENS, QUICK_TRACE_SPAN_S = 40, 1.0
# A load that a small machine carries for hours, and a length that is short enough to try.
SOAK_PER_S, QUICK_SOAK_S, SOAK_S = 2.0, 12.0, 60.0
BLOCKS_EACH = 2  # of each backend in a quartet
# Of one stream; no model is faster, and shorter gaps are at the mercy of timers.
LEAST_CHUNKS_PER_S, MOST_CHUNKS_PER_S = 0.01, 1000.0
# After a switch one short stream goes ahead and is discarded: it re-opens connections and wakes idle loops.
LEAD_S, LEAD_CHUNKS = 0.25, 4
MODEL_TTFT_S = 0.2

BY_FLAG = ""
"""Stands where a backend's name does when the system's flag chooses."""
Protocol = Literal["streamgauge", "openai"]
"""Whether a streamgauge system is asked, or a model itself."""

PROMPTS = (
    "Explain how a tide table is made.",
    "Write a short letter to a neighbour about a hedge.",
    "What should I look at when I buy a used bicycle?",
    "Summarise the history of the pencil in one paragraph.",
    "How do I keep a sourdough starter alive over a holiday?",
    "Describe the sound of a harbour at night.",
)


class Arrival(msgspec.Struct, frozen=True):
    """One conversation to start `at_s` seconds after its block began, whatever the others are doing.

    Where `backend` is `BY_FLAG`, the system chooses.
    """

    at_s: float
    backend: str
    model: str | None
    max_tokens: int | None
    prompt: str
    chunks: int | None = None
    counted: bool = True
    watching: Watching = Watching()

    @property
    def viewers(self) -> tuple[Viewer, ...]:
        """Who watches it."""
        return self.watching.viewers


class Block(msgspec.Struct, frozen=True):
    """Arrivals of one backend; the next block waits until its last stream ended. `quartet` is null for a warm-up.

    A `twin` repeats its backend's work in the same quartet and serves the noise floor alone.
    """

    index: int
    backend: str
    quartet: int | None
    segment: int
    arrivals: tuple[Arrival, ...]
    twin: bool = False


class Plan(msgspec.Struct, frozen=True):
    """The whole run; `chunk_rate` is that of every stream."""

    seed: int
    stream_timeout_s: float
    blocks: tuple[Block, ...]
    schema: int = 1
    soak_s: float | None = None
    protocol: Protocol = "streamgauge"
    flips: Timetable | None = None
    chunk_rate: float | None = None


class Shape(NamedTuple):
    """The size of a run: how many quartets, what a stream looks like, and how far apart streams start."""

    quartets: int
    conversations: int
    stream_s: float
    spread_s: float
    chunk_rate: float
    model: str | None
    seed: int
    slack_s: float


def shape(
    *,
    quick: bool,
    conversations: int | None,
    chunk_rate: float,
    model: str | None,
    seed: int,
    quartets: int | None = None,
    stream_s: float | None = None,
) -> Shape:
    """The shape of a steady run; `conversations` counts per backend; a block plays at least one of them."""
    if not LEAST_CHUNKS_PER_S <= chunk_rate <= MOST_CHUNKS_PER_S:
        raise ValueError(
            f"chunk rate {chunk_rate:g} is not between {LEAST_CHUNKS_PER_S:g} and {MOST_CHUNKS_PER_S:g}: "
            "give the chunks per second of one stream"
        )
    wanted = conversations if conversations is not None else (QUICK_CONVERSATIONS if quick else CONVERSATIONS)
    if wanted < 1:
        raise ValueError(f"{wanted} conversations is not enough: give 1 or more")
    most = (QUICK_QUARTETS if quick else QUARTETS) if quartets is None else quartets
    quartets = max(1, min(most, wanted // BLOCKS_EACH))
    return Shape(
        quartets=quartets,
        conversations=max(wanted, BLOCKS_EACH),
        stream_s=stream_s or (QUICK_STREAM_S if quick else STREAM_S),
        spread_s=0.3 if quick else 1.0,
        chunk_rate=chunk_rate,
        model=model,
        seed=seed,
        slack_s=8.0 if quick else 30.0,
    )


def scheduled(size: Shape, backends: Sequence[str], schedule: Schedule, watch: Watch = once) -> Plan:
    """Streams of one length and pace, starting when the schedule says, at instants that every backend shares."""
    rng = random.Random(size.seed)  # noqa: S311
    chunks = max(2, round(size.stream_s * size.chunk_rate))
    segments = []
    blocks = BLOCKS_EACH * size.quartets
    each = [(one + 1) * size.conversations // blocks - one * size.conversations // blocks for one in range(blocks)]
    for streams in (max(each), *each):
        starts = schedule(rng, streams, size.spread_s)
        segments.append([_arrival(size, rng, LEAD_S + at_s, chunks) for at_s in starts])
    return _arrange(size, rng, _watched(size, segments, watch), backends)


def soak(
    size: Shape, backends: Sequence[str], schedule: Schedule, duration_s: float, conversations: int, watch: Watch = once
) -> Plan:
    """One long block a backend, of the same arrivals: for what changes over time, not for comparing the backends."""
    rng = random.Random(size.seed)  # noqa: S311
    chunks = max(2, round(size.stream_s * size.chunk_rate))
    warmup = [_arrival(size, rng, LEAD_S, chunks)]
    steady = [_arrival(size, rng, LEAD_S + at_s, chunks) for at_s in schedule(rng, conversations, duration_s)]
    turns = [Turn(name, quartet, segment) for name in backends for quartet, segment in ((None, 0), (0, 1))]
    return msgspec.structs.replace(_play(size, _watched(size, [warmup, steady], watch), turns), soak_s=duration_s)


def replay(
    size: Shape, backends: Sequence[str], requests: Sequence[Request], *, quick: bool, watch: Watch = once
) -> Plan:
    """Recorded arrivals and output lengths, the same for every backend; the first few also serve as warm-up."""
    rng = random.Random(size.seed)  # noqa: S311
    # The lengths of a trace vary so much that few long segments compare better than many short ones.
    quartets = min(1 if quick else TRACE_QUARTETS, max(1, len(requests) // 2))
    size = size._replace(quartets=quartets)
    parts = split(list(requests), BLOCKS_EACH * quartets)
    segments = [[_recorded(size, rng, part, request, quick=quick) for request in part] for part in parts]
    warmup = [_arrival(size, rng, LEAD_S, max(2, round(size.chunk_rate)))]
    return _arrange(size, rng, _watched(size, [warmup, *segments], watch), backends)


def save(plan: Plan, path: Path) -> None:
    """Write the plan where the load generator, or a reader of the results, finds it."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(plan), indent=1))


def load(path: Path) -> Plan:
    """Read a plan back; what is not one is refused with the place of the fault."""
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def _arrange(size: Shape, rng: random.Random, segments: list[list[Arrival]], backends: Sequence[str]) -> Plan:
    order = _order(rng, backends, len(segments) - 1)
    # The warm-up ends with the backend that begins, so that even the first block follows one of its own kind.
    warmups = [Turn(name, None, 0) for name in sorted(backends, key=lambda name: name == order[0].backend)]
    return _play(size, segments, [*warmups, *order])


def _play(size: Shape, segments: list[list[Arrival]], turns: "Sequence[Turn]") -> Plan:
    blocks = tuple(
        Block(
            index,
            turn.backend,
            turn.quartet,
            turn.segment,
            tuple(
                msgspec.structs.replace(
                    arrival, backend=turn.backend, counted=arrival.counted and turn.quartet is not None
                )
                for arrival in (_lead(size, turn.segment), *segments[turn.segment])
            ),
            turn.twin,
        )
        for index, turn in enumerate(turns)
    )
    longest = max(arrival.chunks or 0 for block in blocks for arrival in block.arrivals) / size.chunk_rate
    return Plan(size.seed, MODEL_TTFT_S + 2 * longest + size.slack_s, blocks, chunk_rate=size.chunk_rate)


class Turn(NamedTuple):
    """Who plays which segment next."""

    backend: str
    quartet: int | None
    segment: int
    twin: bool = False


def _order(rng: random.Random, backends: Sequence[str], segments: int) -> list[Turn]:
    if not backends or len(set(backends)) < len(backends):
        raise ValueError(f"different backends can be measured, not {', '.join(backends) or 'none'}: name each once")
    if len(backends) == 1:
        return [Turn(backends[0], segment // BLOCKS_EACH, segment + 1) for segment in range(segments)]
    order: list[Turn] = []
    for quartet, names in enumerate(islice(_lineups(rng, backends), segments // BLOCKS_EACH)):
        # Every backend, and A' too, reads the same forwards and backwards: a steady drift cancels out of any ratio.
        order += [*_half(names, quartet, 2 * quartet + 1), *reversed(_half(names, quartet, 2 * quartet + 2))]
    return order


def _half(names: Sequence[str], quartet: int, segment: int) -> list[Turn]:
    first, *others = [Turn(name, quartet, segment) for name in names]
    return [first, first._replace(twin=True), *others]


def _lineups(rng: random.Random, backends: Sequence[str]) -> Iterator[list[str]]:
    """For ever, who plays in which order: drawn, but in turns for the first and the last place.

    Only there does a block follow one of its own backend, which `usage` needs of each.
    """
    ends = cycle(rng.sample(list(backends), len(backends)))
    while True:
        outer = list(islice(ends, 2))
        rng.shuffle(outer)
        inner = [name for name in backends if name not in outer]
        rng.shuffle(inner)
        yield [outer[0], *inner, outer[1]]


def _arrival(size: Shape, rng: random.Random, at_s: float, chunks: int, *, counted: bool = True) -> Arrival:
    # Each stream gets its own text (seed), so that a chunk delivered to the wrong stream cannot pass unseen.
    model = size.model and (
        f"{size.model}?ttft={MODEL_TTFT_S}&gap={1 / size.chunk_rate:.6g}&chunks={chunks}&seed={rng.randrange(10**6)}"
    )
    return Arrival(at_s, "", model, chunks, rng.choice(PROMPTS), chunks, counted)


def _watched(size: Shape, segments: list[list[Arrival]], watch: Watch) -> list[list[Arrival]]:
    # A source of its own: the same seed gives the same arrivals, whoever watches.
    rng = random.Random(f"{size.seed}/viewers")  # noqa: S311
    return [
        [
            msgspec.structs.replace(arrival, watching=watch(rng, number, arrival.chunks or 1, size.chunk_rate))
            for arrival in segment
        ]
        for number, segment in enumerate(segments)
    ]


def _lead(size: Shape, segment: int) -> Arrival:
    rng = random.Random(f"{size.seed}/{segment}")  # noqa: S311
    return _arrival(size, rng, 0.0, LEAD_CHUNKS, counted=False)


def _recorded(size: Shape, rng: random.Random, part: list[Request], request: Request, *, quick: bool) -> Arrival:
    offset, span = request.at_s - part[0].at_s, part[-1].at_s - part[0].at_s
    tokens = request.output_tokens
    if quick:
        offset *= min(1.0, QUICK_TRACE_SPAN_S / span) if span else 1.0
        tokens = min(tokens, QUICK_TRACE_TOKENS)
    arrival = _arrival(size, rng, LEAD_S + offset, tokens)
    model = arrival.model and arrival.model.replace(f"&chunks={tokens}&", "&chunks=max&")
    return msgspec.structs.replace(arrival, model=model)
