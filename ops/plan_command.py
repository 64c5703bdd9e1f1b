"""`streamgauge plan`: from measured costs to how many processes, shards and load generators a load takes."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.markdown import Markdown

from app.settings import load_settings
from loadtest import capacity, sizing
from loadtest.bench.session import Results
from loadtest.sizing import GIB, Sizing, SizingError, Systems, Wanted
from loadtest.sizing_report import markdown
from ops.usage import UsageError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)


@app.command()
def plan(
    streams: Annotated[int, typer.Option(min=1, help="Streams open at once.")],
    source: Annotated[
        Path, typer.Option("--from", help="The .json of 'streamgauge perf --out X.md', or a capacity.json.")
    ] = Path("results/perf.json"),
    chunk_rate: Annotated[float, typer.Option(min=0.01, help="Chunks per second of one stream.")] = 20.0,
    utilisation: Annotated[float, typer.Option(min=0.05, max=1.0, help="How busy processes may be.")] = 0.6,
    backends: Annotated[str, typer.Option(help="With commas between them; all that were measured if left out.")] = "",
    viewers: Annotated[float, typer.Option(min=0.01, help="Viewers of one stream.")] = 1.0,
    stream_seconds: Annotated[float, typer.Option(min=0.1, help="How long a stream is.")] = 20.0,
    chunk_chars: Annotated[int, typer.Option(min=1, help="Characters in a chunk.")] = 6,
    shard_gib: Annotated[int, typer.Option(min=1, help="Memory for chunks in one Valkey shard.")] = 16,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the plan here, as Markdown.")] = None,
) -> None:
    """Say how many of everything a load takes, from measured costs, with every assumption and extrapolation marked."""
    settings = load_settings()
    wanted = Wanted(
        streams=streams,
        chunk_rate=chunk_rate,
        utilisation=utilisation,
        viewers=viewers,
        stream_s=stream_seconds,
        ttl_s=settings.chunk_ttl_s,
        chunk_chars=chunk_chars,
        shard_bytes=shard_gib * GIB,
        worker_streams=settings.worker_concurrency,
    )
    names = tuple(name.strip() for name in backends.split(",") if name.strip())
    text = markdown(_plans(source, wanted, names), wanted)
    console.print(Markdown(text) if console.is_terminal else text, markup=False, soft_wrap=True)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def _plans(source: Path, wanted: Wanted, names: tuple[str, ...]) -> list[Sizing] | list[Systems]:
    fix = "make one with 'streamgauge perf --out results/perf.md' or 'streamgauge capacity'"
    try:
        data = source.read_bytes()
        if msgspec.json.decode(data).get("kind") == "capacity":
            return sizing.from_capacity(capacity.read(data), wanted, names)
        return sizing.from_perf(msgspec.json.decode(data, type=Results), wanted, names)
    except OSError as error:
        raise UsageError(f"{source}: {error.strerror}: {fix}.") from error
    except (msgspec.ValidationError, AttributeError) as error:
        raise UsageError(f"{source} has no measured costs: {fix}.") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"{source} is no whole JSON file ({error}): {fix}.") from error
    except SizingError as error:
        raise UsageError(f"{source}: {error}.") from error
