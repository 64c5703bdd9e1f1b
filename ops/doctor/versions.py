"""Versions that are known to break: each one was seen (ops/decisions/0002-pinned-broker-stack.md)."""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from ops.doctor.finding import Finding, error, well

BROKEN_FROM = {
    "celery": ((5, 7), "workers die when the broker restarts while they answer"),
    "kombu": ((5, 7), "workers die when the broker restarts while they answer"),
    "redis": ((9, 0), "kombu does not work with it"),
}
"""From this version on, what it does; mend this when the broker-restart test passes on a newer set."""
FIX = "pip install --require-hashes -r requirements.lock: it holds the versions that the tests passed with."


def installed() -> dict[str, str]:
    """Give the versions in this Python."""
    found = {}
    for name in BROKEN_FROM:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def judge(check: str, found: Mapping[str, str]) -> Iterator[Finding]:
    """Judge versions by name."""
    shown = ", ".join(f"{name} {text}" for name, text in found.items())
    broken = [
        (name, text, trouble)
        for name, text in found.items()
        for least, trouble in [BROKEN_FROM[name]]
        if tuple(int(part) for part in text.split(".")[:2] if part.isdigit()) >= least
    ]
    for name, text, trouble in broken:
        yield error(check, f"{name} {text}: {trouble}", shown, FIX)
    if not broken:
        yield well(check, shown)
