"""docs/doctor.md lists what the doctor can say, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/doctor.md").read_text().partition("## What it looks for")[2]
SOURCE = "\n".join(path.read_text() for path in (ROOT / "ops/doctor").glob("*.py"))
DOTTED = re.compile(r'"(?:\{name\}|\{NAME\}|workers|database|flag)\.([a-z-]+)[ "]')
SPACED = re.compile(r'f"\{name\} ([a-z]+)"(?:, (?!if))')


def documented() -> set[str]:
    """The last fixed word of each check's name."""
    names = [name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)]
    return {re.split(r"[. ]", re.sub(r" (URL|NAME|of …)$| N(?= )", "", name))[-1] for name in names}


def test_every_check_is_documented() -> None:
    """By the word that names it beside the part it is of."""
    assert {*DOTTED.findall(SOURCE), *SPACED.findall(SOURCE)} - documented() == set()


def test_every_documented_check_exists() -> None:
    """None is left of a check that is gone."""
    assert [word for word in documented() if not re.search(rf'[". ]{word}[ "]', SOURCE)] == []
