"""`streamgauge claims`, once and small, on everything that is real."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest import claims, document
from loadtest.claims import CLAIMS
from loadtest.claims_report import Document
from ops.claims import START
from ops.claims_command import QUICK
from tests.support.targets import ROOT


@pytest.mark.timeout(300)
def test_every_claim_is_measured_and_judged(tmp_path: Path) -> None:
    """From two conversations and a few streams: too few to convince anybody, and enough to have every number.

    Whether a level holds is the machine's affair: each says why, and the search goes by what it says.
    """
    command = [sys.executable, "-m", "ops.cli", "claims", "--quick", "--num-conversations", "4", "--limit", "4"]
    command += ["--out", str(tmp_path), "--folder", str(tmp_path / "stack")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("claims-*/claims.json")
    made = msgspec.json.decode(file.read_bytes(), type=Document)
    assert [one.claim for one in made.findings] == list(CLAIMS.values())
    found = dict(zip(CLAIMS, made.findings, strict=True))
    for name, levels in made.levels.items():
        tried = range(len(levels) + 1)
        assert [*(one.streams for one in levels), None] == [
            claims.next_level(levels[:count], START[name], 4, QUICK.close_enough) for count in tried
        ]
        assert all(one.why for one in levels)
    assert all(one.records >= one.streams for one in made.levels["pubsub"])
    assert made.levels["pubsub"][0].store_bytes > 0
    nothing_held = not claims.edge(made.levels["polling"]).held
    unknown = {name for name, one in found.items() if one.measured.estimate is None}
    assert unknown == ({"more_users"} if nothing_held else set()), found
    assert "| faster chunk delivery | 30× |" in file.with_suffix(".md").read_text()
    assert "what is claimed, and what this machine shows" in " ".join(done.stdout.split())
    assert made.settings["STREAMGAUGE_POLLING_INTERVAL_S"] == 0.1
    run = document.read(next(file.parent.glob("*/result.json")).parent)
    for figures in run.backends.values():
        assert {"api", "worker", "valkey", "postgres", "model", "load"} <= set(figures.cpu_us_per_chunk)
        # Of the others so short a run may take less than a tick of the kernel's clock.
        assert all(figures.cpu_us_per_chunk[name] for name in ("api", "worker", "load"))
        assert set(figures.peak_rss_bytes) >= {"api", "worker"}
        assert set(figures.hops_s) == {"publish", "transit", "write", "client"}
