"""Writes each dashboard as Grafana's JSON; `python -m dashboards.render --check` only says what is out of date."""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import comparison, lifecycle, load, overview, rollout, servers, workers
from dashboards.panels import Board, build

GENERATED = Path(__file__).parent / "generated"
BOARDS = tuple(page.BOARD for page in (overview, comparison, rollout, lifecycle, workers, servers, load))


def render(board: Board) -> str:
    """Give a dashboard's JSON, the same text for the same code."""
    return json.dumps(build(board), cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> dict[Path, str]:
    """Give what `generated/` should hold."""
    return {GENERATED / f"{board.uid.removeprefix('streamgauge-')}.json": render(board) for board in BOARDS}


def stale(wanted: dict[Path, str]) -> list[str]:
    """Name each file that is missing, differs, or belongs to no dashboard."""
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(path.name for path in [*differing, *(set(GENERATED.glob("*.json")) - set(wanted))])


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` fail if they are not what the code makes."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m dashboards.render [--check]", file=sys.stderr)  # noqa: T201
        return 2
    wanted = files()
    if arguments:
        old = stale(wanted)
        if old:
            print(f"Out of date: {', '.join(old)}. Run `python -m dashboards.render` and commit.", file=sys.stderr)  # noqa: T201
        return 1 if old else 0
    GENERATED.mkdir(exist_ok=True)
    for path in set(GENERATED.glob("*.json")) - set(wanted):
        path.unlink()
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
