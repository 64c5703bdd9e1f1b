"""What a run records of its options, and the command that this gives: the same plan, played in the same way."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from loadtest.catalogue import ROLLBACK
from loadtest.options import BenchOptions

# Options of the command by the setting that they set.
OPTIONS = {
    "scenario": "--scenario", "duration": "--duration", "num_conversations": "--num-conversations",
    "quartets_at_most": "--quartets", "chunk_rate": "--chunk-rate", "stream_s": "--stream-seconds", "trace": "--trace",
    "seed": "--seed",
}  # fmt: skip
# Those of how many play and serve; one is the default.
COUNTS = {"processes": "--processes", "workers": "--workers", "apis": "--apis"}
NOT_OF_THE_LOAD = ("team", "progress")


def settings(options: BenchOptions, target: str, seed: int) -> dict[str, Any]:
    """As the result keeps them."""
    return {
        **{name: value for name, value in asdict(options).items() if name not in NOT_OF_THE_LOAD},
        "out": str(options.out),
        "trace": options.trace and str(options.trace),
        "seed": seed,
        "target": target,
        "processes": options.team.processes,
        "expect_workers": options.team.expect_workers,
        "master_port": options.team.port,
    }


def command(result: Mapping[str, Any]) -> str:
    """What a person types to play the same plan again, against the same target if it was not a system of our own."""
    made = result["settings"]
    words = ["streamgauge", "bench", *(["--quick"] if made.get("quick") else []), *_whom(result)]
    for name, option in OPTIONS.items():
        words += [option, f"{made[name]}"] if made.get(name) is not None else []
    if made.get("trace") is not None:
        words += ["--time-scale", f"{made['time_scale']:g}"]
    for name, option in COUNTS.items():
        words += [option, f"{made[name]}"] if made.get(name, 1) > 1 else []
    if made.get("expect_workers"):
        words += ["--expect-workers", f"{made['expect_workers']}", "--master-port", f"{made['master_port']}"]
    return shlex.join([*words, *_flipping(made)])


def _whom(result: Mapping[str, Any]) -> list[str]:
    made = result["settings"]
    is_direct = made.get("protocol") == "openai"
    backends = ",".join(made.get("backends") or result["backends"])
    whom = ["--protocol", "openai"] if is_direct else ["--backends", backends]
    return [*whom, *(["--target", made["target"]] if made.get("own_system") is False else [])]


def _flipping(made: Mapping[str, Any]) -> list[str]:
    how = made.get("flipping")
    if made.get("scenario") != ROLLBACK or not how:
        return []
    every = ["--flip-every", f"{how['every_s']:g}"] if how["every_s"] else []
    return [*every, *([] if how["loses_store"] else ["--no-kill"])]
