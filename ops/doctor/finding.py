"""What a check says."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing, and well enough for what it is."""
    WARNING = "warning"
    """Works, and will not under load, after a restart, or for some."""
    ERROR = "error"
    """Messages fail, wait or are lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's answer. `fix` is empty where there is nothing to do."""

    check: str
    severity: Severity
    finding: str
    evidence: str = ""
    fix: str = ""

    @property
    def is_well(self) -> bool:
        """Whether nobody needs to do anything."""
        return self.severity in {Severity.OK, Severity.NOTE}

    def as_json(self) -> dict[str, str]:
        """Give the fields by name."""
        return asdict(self)


Findings = AsyncIterator[Finding]


def well(check: str, finding: str) -> Finding:
    """Say that a check found nothing."""
    return Finding(check, Severity.OK, finding)


def note(check: str, finding: str, evidence: str, fix: str) -> Finding:
    """Say something worth knowing."""
    return Finding(check, Severity.NOTE, finding, evidence, fix)


def warning(check: str, finding: str, evidence: str, fix: str) -> Finding:
    """Say what will not hold."""
    return Finding(check, Severity.WARNING, finding, evidence, fix)


def error(check: str, finding: str, evidence: str, fix: str) -> Finding:
    """Say what fails messages."""
    return Finding(check, Severity.ERROR, finding, evidence, fix)


def shortened(cause: object) -> str:
    """Give what an exception says, in one line that fits a terminal."""
    return " ".join((str(cause) or type(cause).__name__).split())[:300]
