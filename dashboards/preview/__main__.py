"""`python -m dashboards.preview http://127.0.0.1:9090` draws every page as it is now into docs/dashboards/."""

import argparse
import json
import sys
import time
from pathlib import Path
from urllib.error import URLError

from dashboards import render
from dashboards.preview import page
from dashboards.preview.asking import Prometheus

DRAWN = Path(__file__).parent.parent.parent / "docs" / "dashboards"


def main(arguments: list[str]) -> int:
    """Write one picture a page; 1 with the reason if the server does not answer."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.preview", description=__doc__)
    parser.add_argument("url", help="of a Prometheus, such as `streamgauge up --observe` prints")
    parser.add_argument("--minutes", type=float, default=10, help="how far back it looks")
    parser.add_argument("--end", type=float, default=None, help="in seconds since 1970, if that is not now")
    parser.add_argument("--out", type=Path, default=DRAWN, help="the folder the pictures go to")
    options = parser.parse_args(arguments)
    prometheus = Prometheus(options.url, options.end or time.time(), options.minutes)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        for path, text in render.files().items():
            (options.out / f"{path.stem}.svg").write_text(page.draw(json.loads(text), prometheus))
    except (URLError, ValueError) as error:
        print(f"{options.url} can't be drawn from: {error}. Start it with `streamgauge up --observe`.", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
