"""How many requests a second an API answers, beside another: `python -m loadtest.bench.asking URL_A URL_B`.

Each round asks A, B, B, A for a conversation over a few connections, so that what the machine does meanwhile falls on
both; it prints each system's requests a second and the ratio of B to A, round by round. A key goes along where
STREAMGAUGE_API_KEY holds one.
"""

import argparse
import asyncio
import statistics
import sys
import time

import msgspec
import uvloop

from loadtest.bench.post import Connection
from loadtest.key import key_headers

CONNECTIONS = 8


async def rate(url: str, seconds: float) -> float:
    """Ask for an empty conversation again and again, and give the answers a second."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in key_headers().items())
    async with Connection.open(url) as connection:
        conversation = (await connection.json("POST", "/conversations", b"{}", headers))["id"]
    until, answered = time.monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal answered
        async with Connection.open(url) as connection:
            while time.monotonic() < until:
                await connection.json("GET", f"/conversations/{conversation}", headers=headers)
                answered += 1

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return answered / seconds


async def run(urls: tuple[str, str], rounds: int, seconds: float) -> dict[str, object]:
    """Measure both, the one after the other and in turned order."""
    found: dict[str, list[float]] = {url: [] for url in urls}
    for number in range(rounds + 1):
        pair = [await rate(url, seconds) for url in (*urls, *reversed(urls))]
        if number:  # the first round warms both up
            found[urls[0]].append((pair[0] + pair[3]) / 2)
            found[urls[1]].append((pair[1] + pair[2]) / 2)
    ratios = sorted(b / a for a, b in zip(*found.values(), strict=True))
    medians: dict[str, object] = {url: round(statistics.median(rates), 1) for url, rates in found.items()}
    spread = {"median": statistics.median(ratios), "least": ratios[0], "most": ratios[-1]}
    return medians | {"ratio": {name: round(value, 3) for name, value in spread.items()}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs=2, metavar="URL")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    return parser.parse_args()


if __name__ == "__main__":
    options = _arguments()
    found = uvloop.run(run(tuple(options.urls), options.rounds, options.seconds))
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
