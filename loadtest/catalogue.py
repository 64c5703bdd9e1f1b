"""The scenarios by name: when streams start, and who watches them how."""

import re
from typing import NamedTuple

from loadtest import schedules, viewers
from loadtest.schedules import Schedule
from loadtest.viewers import Watch

SOAK, ROLLBACK, TRACE = "soak", "rollback", "trace"
UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Scenario(NamedTuple):
    """One name's meaning."""

    schedule: Schedule = schedules.steady
    watch: Watch = viewers.once


SCENARIOS = {
    **{name: Scenario(schedule) for name, schedule in schedules.SCHEDULES.items()},
    "open": Scenario(schedules.poisson),
    "reconnect": Scenario(watch=viewers.reconnecting),
    "late-join": Scenario(watch=viewers.late),
    "multi-viewer": Scenario(watch=viewers.several),
    "slow-client": Scenario(watch=viewers.beside_slow),
    "cancel": Scenario(watch=viewers.cancelling),
    SOAK: Scenario(schedules.constant),
    TRACE: Scenario(),
    ROLLBACK: Scenario(schedules.steady, viewers.coming_and_going),
}


def named(name: str) -> Scenario:
    """The scenario of that name; another name raises ValueError with those there are."""
    try:
        return SCENARIOS[name]
    except KeyError:
        raise ValueError(f"no scenario {name!r}: give one of {', '.join(SCENARIOS)}") from None


def duration_s(text: str) -> float:
    """Read 90, 90s, 10m or 2h; anything else raises ValueError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text.strip())
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not seconds:
        raise ValueError(f"{text!r} is no duration: write it like 90s, 10m or 2h")
    return seconds
