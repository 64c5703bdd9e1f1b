"""What a test asks of the doctor's findings."""

from collections.abc import AsyncIterator, Iterable

from ops.doctor.finding import Finding, Severity


async def troubles(findings: AsyncIterator[Finding]) -> dict[str, Finding]:
    """Collect what is not simply well, by check."""
    return by_check([finding async for finding in findings])


def by_check(findings: Iterable[Finding]) -> dict[str, Finding]:
    """What is not simply well, by check."""
    return {finding.check: finding for finding in findings if finding.severity is not Severity.OK}


def only(found: dict[str, Finding], check: str, evidence: str, fix: str) -> None:
    """Hold the one finding there is against the fault that was planted."""
    assert list(found) == [check], found
    assert evidence in found[check].evidence, found[check]
    assert fix in found[check].fix, found[check]
